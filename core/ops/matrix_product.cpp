#include "core/ops/matrix_product.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/grad_mode.h>
#include <c10/util/Exception.h>
#include <torch/csrc/autograd/custom_function.h>

#include <optional>
#include <string_view>

#include "core/ops/bfloat16_product.h"
#include "core/ops/kept_activations.h"
#include "core/ops/products.h"

namespace mla {
namespace {

// oneDNN compiles its kernels for the processor it finds. The other library, MKL, gives processors of other makers than
// its own less than they can do: on AMD's with AVX-512 it reaches 0.45 of oneDNN's rate, with AVX2 0.85. ATen calls
// oneDNN for float32 matrices on request only, by this operator of its own, which older versions may lack.
using LinearOperator = at::Tensor(const at::Tensor&, const at::Tensor&, const std::optional<at::Tensor>&,
                                  std::string_view, c10::List<std::optional<at::Scalar>>,
                                  std::optional<std::string_view>);

std::optional<c10::TypedOperatorHandle<LinearOperator>> find_onednn() {
  const auto found = c10::Dispatcher::singleton().findSchema({"mkldnn::_linear_pointwise", ""});
  if (!found || !found->hasKernelForDispatchKey(c10::DispatchKey::CPU)) return {};
  try {
    return found->typed<LinearOperator>();
  } catch (const c10::Error&) {
    return {};
  }
}

/// Below this many operations the calls themselves, and a kernel compiled for every new shape, cost more.
constexpr std::int64_t kEnoughOperations = 1 << 24;
/// Products of fewer rows, which decoding has, are read at the speed of memory by thin_linear.h.
constexpr std::int64_t kEnoughRows = 17;

bool is_large(const at::Tensor& x, const at::Tensor& weight) {
  return x.scalar_type() == at::kFloat && weight.scalar_type() == at::kFloat && x.numel() >= kEnoughRows * x.size(-1) &&
         2 * x.numel() * weight.size(0) >= kEnoughOperations;
}

/// x weight^T of large float32 matrices; undefined where neither oneDNN nor bfloat16 serves.
at::Tensor large_linear(const at::Tensor& x, const at::Tensor& weight) {
  if (!is_large(x, weight)) return {};
  if (current_products() == Products::kBFloat16) {
    auto shape = x.sizes().vec();
    shape.back() = weight.size(0);
    return bfloat16_product(x.flatten(0, -2), weight.t()).view(shape);
  }
  static const std::optional<c10::TypedOperatorHandle<LinearOperator>> linear = find_onednn();
  if (!linear || !x.is_cpu()) return {};
  const at::NoGradGuard no_gradients;
  return linear->call(x.detach(), weight.detach(), std::nullopt, "none", c10::List<std::optional<at::Scalar>>(), "");
}

at::Tensor linear_without_gradient(const at::Tensor& x, const at::Tensor& weight) {
  const at::Tensor y = large_linear(x, weight);
  return y.defined() ? y : at::linear(x, weight);
}

struct DenseLinear : torch::autograd::Function<DenseLinear> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x, const at::Tensor& weight) {
    context->save_for_backward({kept(x), weight});
    save_products(context);
    return linear_without_gradient(x, weight);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradients) {
    const auto saved = context->get_saved_variables();
    const ProductsScope products(saved_products(context));
    const at::Tensor x = taken(saved[0], saved[1].scalar_type()).flatten(0, -2), dy = gradients[0].flatten(0, -2);
    at::Tensor dx, dweight;
    if (context->needs_input_grad(0)) dx = matrix_product(dy, saved[1]).view(saved[0].sizes());
    if (context->needs_input_grad(1)) dweight = matrix_product(dy.t(), x);
    return {dx, dweight};
  }
};

}  // namespace

at::Tensor matrix_product(const at::Tensor& a, const at::Tensor& b) {
  const at::Tensor product = large_linear(a, b.t());
  return product.defined() ? product : at::mm(a, b);
}

void add_matrix_product(const at::Tensor& sum, const at::Tensor& a, const at::Tensor& b) {
  if (current_products() == Products::kBFloat16 && is_large(a, b.t()) && sum.is_contiguous()) {
    return add_bfloat16_product(sum, a, b);
  }
  // The library with the faster product takes no sum to add to.
  const at::Tensor product = large_linear(a, b.t());
  if (product.defined()) {
    sum.add_(product);
  } else {
    sum.addmm_(a, b);
  }
}

at::Tensor dense_linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  if (x.dim() < 2) return at::linear(x, weight, bias);
  // With and without gradients alike: a checkpointed layer is computed both ways, to the same bits.
  const at::Tensor y = at::GradMode::is_enabled() ? DenseLinear::apply(x, weight) : linear_without_gradient(x, weight);
  return bias.defined() ? y + bias : y;
}

}  // namespace mla
