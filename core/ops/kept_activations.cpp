#include "core/ops/kept_activations.h"

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>

#include <cstdint>
#include <optional>

#include "core/ops/products.h"

namespace mla {
namespace {

/// The latest values that were kept: queries, keys and values are projected from the same ones, and what attention
/// computes is what the next map reads. This holds neither them nor what they were rounded to.
struct Latest {
  c10::weak_intrusive_ptr<c10::StorageImpl> values, rounded;
  std::int64_t offset = 0, elements = 0;
  std::uint32_t version = 0;
};
thread_local std::optional<Latest> latest;

std::uint32_t version_of(const at::Tensor& x) { return x.unsafeGetTensorImpl()->version_counter().current_version(); }

/// What the elements of `x`, in the order of memory, were rounded to by the call before; undefined otherwise.
at::Tensor found(const at::Tensor& x) {
  if (!latest || latest->offset != x.storage_offset() || latest->elements != x.numel() ||
      latest->version != version_of(x) || latest->values.lock().get() != x.storage().unsafeGetStorageImpl()) {
    return {};
  }
  const auto rounded = latest->rounded.lock();
  if (!rounded) return {};
  return at::empty({0}, x.options().dtype(at::kBFloat16)).set_(c10::Storage(rounded), 0, {x.numel()}, {1});
}

}  // namespace

bool keeps_rounded(const at::Tensor& x) {
  return current_products() == Products::kBFloat16 && x.scalar_type() == at::kFloat;
}

at::Tensor kept(const at::Tensor& x) {
  if (!keeps_rounded(x)) return x;
  const at::NoGradGuard no_grad;
  const at::Tensor values = x.detach();
  if (!values.is_non_overlapping_and_dense()) return values.to(at::kBFloat16);
  at::Tensor rounded = found(values);
  if (!rounded.defined()) {
    rounded = values.as_strided({values.numel()}, {1}).to(at::kBFloat16);
    latest = Latest{values.storage().getWeakStorageImpl(), rounded.storage().getWeakStorageImpl(),
                    values.storage_offset(), values.numel(), version_of(values)};
  }
  return rounded.as_strided(values.sizes(), values.strides());
}

at::Tensor taken(const at::Tensor& kept, at::ScalarType dtype) { return kept.to(dtype); }

}  // namespace mla
