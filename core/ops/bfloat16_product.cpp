#include "core/ops/bfloat16_product.h"

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "core/base/error.h"
#include "core/ops/bfloat16_kernels.h"
#include "core/ops/products.h"

namespace mla {
namespace {

at::Tensor rounded(const at::Tensor& x) { return x.to(at::kBFloat16).to(at::kFloat); }

/// Elements, and rows or columns at least, of the larger factor that are held rounded at once: a whole copy of, say,
/// the logits' gradient would take more memory than activations in bfloat16 save.
constexpr std::int64_t kRoundedAtOnce = 1 << 18, kSlice = 128;

/// out = a b, or out += a b, of rounded factors.
void multiply(const at::Tensor& a, const at::Tensor& b, at::Tensor out, bool add) {
  if (add) {
    out.addmm_(a, b);
  } else {
    at::mm_out(out, a, b);
  }
}

/// The same, rounding the factors first, the larger one slice by slice.
void multiply_rounded(const at::Tensor& a, const at::Tensor& b, const at::Tensor& out, bool add) {
  const bool by_rows = a.numel() >= b.numel();
  const std::int64_t dim = by_rows ? 0 : 1;
  const at::Tensor& larger = by_rows ? a : b;
  const at::Tensor smaller = rounded(by_rows ? b : a);
  const std::int64_t size = larger.size(dim), inner = std::max<std::int64_t>(1, larger.size(1 - dim));
  const std::int64_t step = std::max(kSlice, kRoundedAtOnce / inner);
  for (std::int64_t begin = 0; begin < size; begin += step) {
    const std::int64_t count = std::min(step, size - begin);
    const at::Tensor slice = rounded(larger.narrow(dim, begin, count)), part = out.narrow(dim, begin, count);
    if (by_rows) {
      multiply(slice, smaller, part, add);
    } else {
      multiply(smaller, slice, part, add);
    }
  }
}

using WideProduct = at::Tensor(const at::Tensor&, const at::Tensor&, at::ScalarType);

/// LibTorch's product of bfloat16 matrices whose sums stay float32 (from 2.8 on), which GPUs have units for; undefined
/// where this device has none.
at::Tensor wide_product(const at::Tensor& a, const at::Tensor& b) {
  if (a.is_cpu() || a.device() != b.device()) return {};
  static const auto found = c10::Dispatcher::singleton().findSchema({"aten::mm", "dtype"});
  const c10::DispatchKey key = a.is_cuda() ? c10::DispatchKey::CUDA : c10::DispatchKey::PrivateUse1;
  if (!found || !a.key_set().has(key) || !found->hasKernelForDispatchKey(key)) return {};
  return found->typed<WideProduct>().call(a.to(at::kBFloat16), b.to(at::kBFloat16), at::kFloat);
}

/// out = a b, or out += a b.
void compute(const at::Tensor& a, const at::Tensor& b, at::Tensor out, bool add) {
  expects(a.dim() == 2 && b.dim() == 2 && a.size(1) == b.size(0) && a.scalar_type() == at::kFloat &&
              b.scalar_type() == at::kFloat,
          "bfloat16_product takes float32 matrices that fit");
  const at::NoGradGuard no_gradients;
  if (has_fast_bfloat16() && a.is_cpu() && b.is_cpu() && a.numel() > 0 && b.numel() > 0) {
    const auto kernel = has_bfloat16_tiles() ? bfloat16_tile_product : bfloat16_register_product;
    return kernel(a.detach(), b.detach(), out, add);
  }
  if (const at::Tensor product = wide_product(a.detach(), b.detach()); product.defined()) {
    if (add) {
      out.add_(product);
    } else {
      out.copy_(product);
    }
    return;
  }
  multiply_rounded(a.detach(), b.detach(), out, add);
}

}  // namespace

at::Tensor bfloat16_product(const at::Tensor& a, const at::Tensor& b) {
  const at::Tensor out = at::empty({a.size(0), b.size(1)}, a.options().requires_grad(false));
  compute(a, b, out, false);
  return out;
}

void add_bfloat16_product(const at::Tensor& sum, const at::Tensor& a, const at::Tensor& b) {
  expects(sum.is_contiguous() && sum.scalar_type() == at::kFloat, "sums are contiguous and float32");
  compute(a, b, sum.detach(), true);
}

}  // namespace mla
