#include "core/ops/feed_forward.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/custom_function.h>

#include "core/ops/kept_activations.h"
#include "core/ops/matrix_product.h"
#include "core/ops/products.h"
#include "core/ops/thin_linear.h"
#include "core/ops/vector_math.h"

namespace mla {
namespace {

template <class T>
MLA_INLINE void forward_elements(const T* gate, const T* up, T* out, std::int64_t count) {
#pragma omp simd
  for (std::int64_t i = 0; i < count; ++i) out[i] = gate[i] / (1 + vector_exp(-gate[i])) * up[i];
}

/// Given the gradient of the product in `dgate`, puts there and into `dup` those of its factors, and the product into
/// `out`: silu'(g) = s (1 + g (1 - s)) with s = 1 / (1 + exp(-g)).
template <class T>
MLA_INLINE void backward_elements(const T* gate, const T* up, T* dgate, T* dup, T* out, std::int64_t count) {
#pragma omp simd
  for (std::int64_t i = 0; i < count; ++i) {
    const T g = gate[i], u = up[i], d = dgate[i];
    const T s = 1 / (1 + vector_exp(-g)), silu = g * s;
    out[i] = silu * u;
    dup[i] = d * silu;
    dgate[i] = d * u * (s + silu * (1 - s));
  }
}

MLA_VECTORISED void forward_kernel(const float* gate, const float* up, float* out, std::int64_t count) {
  forward_elements(gate, up, out, count);
}
MLA_VECTORISED void forward_kernel(const double* gate, const double* up, double* out, std::int64_t count) {
  forward_elements(gate, up, out, count);
}
MLA_VECTORISED void backward_kernel(const float* gate, const float* up, float* dgate, float* dup, float* out,
                                    std::int64_t count) {
  backward_elements(gate, up, dgate, dup, out, count);
}
MLA_VECTORISED void backward_kernel(const double* gate, const double* up, double* dgate, double* dup, double* out,
                                    std::int64_t count) {
  backward_elements(gate, up, dgate, dup, out, count);
}

at::Tensor gated(const at::Tensor& gate, const at::Tensor& up) {
  if (!has_kernels(gate, up) || !gate.is_contiguous() || !up.is_contiguous()) return at::silu(gate) * up;
  const at::Tensor out = at::empty_like(gate);
  with_type(gate, [&]<class T>(T*) {
    const T *g = gate.const_data_ptr<T>(), *u = up.const_data_ptr<T>();
    T* o = out.mutable_data_ptr<T>();
    at::parallel_for(0, gate.numel(), 1 << 14, [&](std::int64_t begin, std::int64_t end) {
      forward_kernel(g + begin, u + begin, o + begin, end - begin);
    });
  });
  return out;
}

/// Takes the product's gradient, which it overwrites.
struct GatedGradient {
  at::Tensor gate, up, product;
};
GatedGradient gated_gradient(const at::Tensor& gate, const at::Tensor& up, at::Tensor dproduct) {
  if (!has_kernels(gate, up)) {
    const at::Tensor s = at::sigmoid(gate), silu = gate * s;
    return {dproduct * up * (s + silu * (1 - s)), dproduct * silu, silu * up};
  }
  GatedGradient result{std::move(dproduct), at::empty_like(up), at::empty_like(up)};
  with_type(gate, [&]<class T>(T*) {
    const T *g = gate.const_data_ptr<T>(), *u = up.const_data_ptr<T>();
    T *dg = result.gate.mutable_data_ptr<T>(), *du = result.up.mutable_data_ptr<T>(),
      *o = result.product.mutable_data_ptr<T>();
    at::parallel_for(0, gate.numel(), 1 << 14, [&](std::int64_t begin, std::int64_t end) {
      backward_kernel(g + begin, u + begin, dg + begin, du + begin, o + begin, end - begin);
    });
  });
  return result;
}

struct FeedForward : torch::autograd::Function<FeedForward> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x, const at::Tensor& gate,
                            const at::Tensor& up, const at::Tensor& down) {
    const at::Tensor inner_gate = dense_linear(x, gate), inner_up = dense_linear(x, up);
    context->save_for_backward({kept(x), gate, up, down, kept(inner_gate), kept(inner_up)});
    save_products(context);
    return dense_linear(gated(inner_gate, inner_up), down);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradients) {
    const auto saved = context->get_saved_variables();
    const ProductsScope products(saved_products(context));
    const at::Tensor &gate = saved[1], &up = saved[2], &down = saved[3];
    const auto rows = [&](const at::Tensor& x) { return taken(x, gate.scalar_type()).flatten(0, -2); };
    const at::Tensor dy = gradients[0].flatten(0, -2), dinner = matrix_product(dy, down);
    const GatedGradient inner = gated_gradient(rows(saved[4]), rows(saved[5]), dinner);
    const at::Tensor x = rows(saved[0]);
    at::Tensor dx, dgate, dup, ddown;
    if (context->needs_input_grad(3)) ddown = matrix_product(dy.t(), inner.product);
    if (context->needs_input_grad(1)) dgate = matrix_product(inner.gate.t(), x);
    if (context->needs_input_grad(2)) dup = matrix_product(inner.up.t(), x);
    if (context->needs_input_grad(0)) {
      dx = matrix_product(inner.gate, gate).add_(matrix_product(inner.up, up)).view_as(saved[0]);
    }
    return {dx, dgate, dup, ddown};
  }
};

}  // namespace

at::Tensor gated_product(const at::Tensor& gate, const at::Tensor& up) {
  const bool wanted = at::GradMode::is_enabled() && (gate.requires_grad() || up.requires_grad());
  return wanted ? at::silu(gate) * up : gated(gate, up);
}

at::Tensor feed_forward(const at::Tensor& x, const at::Tensor& gate, const at::Tensor& up, const at::Tensor& down) {
  if (thin_linear_serves(x, gate) && thin_linear_serves(x, up) && thin_linear_serves(x, down)) {
    const std::vector<at::Tensor> inner = thin_linears(x, {gate, up});
    return thin_linear(gated(inner[0], inner[1]), down);
  }
  if (!at::GradMode::is_enabled()) return dense_linear(gated(dense_linear(x, gate), dense_linear(x, up)), down);
  if (has_kernels(x) || keeps_rounded(x)) return FeedForward::apply(x, gate, up, down);
  return dense_linear(at::silu(dense_linear(x, gate)) * dense_linear(x, up), down);
}

}  // namespace mla
