#include "core/ops/causal_attention.h"

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/custom_function.h>

#include <optional>

#include "core/ops/causal_tiles.h"
#include "core/ops/kept_activations.h"

namespace mla {
namespace {

/// [batch, heads, length, width], in memory [batch, length, heads, width].
at::Tensor heads_like(const at::Tensor& x, std::int64_t heads) {
  return at::empty({x.size(0), x.size(2), heads, x.size(3)}, x.options().requires_grad(false)).transpose(1, 2);
}

causal::Tensors attended(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, double scale,
                         const at::Tensor& first) {
  const causal::Tensors t{q,
                          k,
                          v,
                          heads_like(v, q.size(1)),
                          at::empty({q.size(0), q.size(1), q.size(2)}, q.options().requires_grad(false)),
                          first};
  causal::forward(t, scale);
  return t;
}

struct CausalAttention : torch::autograd::Function<CausalAttention> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& q, const at::Tensor& k,
                            const at::Tensor& v, double scale, const std::optional<at::Tensor>& first) {
    const causal::Tensors t = attended(q, k, v, scale, first.value_or(at::Tensor()));
    context->save_for_backward({kept(q), kept(k), kept(v), kept(t.out), t.lse, t.first});
    context->saved_data["scale"] = scale;
    return t.out;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradients) {
    const auto saved = context->get_saved_variables();
    const auto again = [&](std::size_t i) { return taken(saved[i], saved[4].scalar_type()); };
    const causal::Tensors t{again(0), again(1), again(2), again(3), saved[4], saved[5]};
    const causal::Gradients g{gradients[0].stride(3) == 1 ? gradients[0] : gradients[0].contiguous(),
                              heads_like(t.q, t.heads()), heads_like(t.k, t.kv_heads()), heads_like(t.v, t.kv_heads())};
    causal::backward(t, g, context->saved_data["scale"].toDouble());
    return {g.dq, g.dk, g.dv, at::Tensor(), at::Tensor()};
  }
};

at::Tensor dense_rows(const at::Tensor& x) { return x.stride(3) == 1 ? x : x.contiguous(); }

}  // namespace

at::Tensor causal_self_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, double scale,
                                 const at::Tensor& first) {
  expects(k.is_cpu() && v.is_cpu() && (!first.defined() || first.is_cpu()), "kernels take tensors of the CPU");
  std::optional<at::Tensor> given;  // autograd takes no undefined tensor
  if (first.defined()) given = first.contiguous();
  if (!at::GradMode::is_enabled()) {
    return attended(dense_rows(q), dense_rows(k), dense_rows(v), scale, given.value_or(at::Tensor())).out;
  }
  return CausalAttention::apply(dense_rows(q), dense_rows(k), dense_rows(v), scale, given);
}

}  // namespace mla
