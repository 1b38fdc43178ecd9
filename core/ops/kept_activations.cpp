#include "core/ops/kept_activations.h"

#include <ATen/Functions.h>
#include <ATen/core/grad_mode.h>

#include <cstdint>
#include <optional>

#include "core/ops/products.h"
#include "core/ops/vector_math.h"

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
  const c10::DispatchKeySet keys(c10::computeDispatchKey(at::kBFloat16, x.layout(), x.device()));
  const at::Tensor again =
      at::detail::make_tensor<c10::TensorImpl>(c10::Storage(rounded), keys, c10::scalarTypeToTypeMeta(at::kBFloat16));
  again.unsafeGetTensorImpl()->set_sizes_contiguous({x.numel()});
  return again;
}

// ATen converts with vectors of half the width, for a fifth of a training step. Numbers that are none stay such.
MLA_VECTORISED void round_kernel(const std::uint32_t* in, std::uint16_t* out, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) {
    const std::uint32_t bits = in[i], nearest = (bits + 0x7FFFU + ((bits >> 16) & 1U)) >> 16;
    out[i] = static_cast<std::uint16_t>((bits & 0x7FFFFFFFU) > 0x7F800000U ? 0x7FC0U : nearest);
  }
}
MLA_VECTORISED void widen_kernel(const std::uint16_t* in, std::uint32_t* out, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) out[i] = static_cast<std::uint32_t>(in[i]) << 16;
}

/// Calls kernel(in, out, count) for parts of the elements of contiguous `from` and `to`.
template <class In, class Out>
void convert(void (*kernel)(const In*, Out*, std::int64_t), const at::Tensor& from, const at::Tensor& to) {
  const auto* in = static_cast<const In*>(from.const_data_ptr());
  auto* out = static_cast<Out*>(to.mutable_data_ptr());
  at::parallel_for(0, from.numel(), 1 << 15,
                   [&](std::int64_t begin, std::int64_t end) { kernel(in + begin, out + begin, end - begin); });
}

/// Of elements in one dimension, one after the other.
at::Tensor rounded_elements(const at::Tensor& x) {
  if (!has_kernels(x)) return x.to(at::kBFloat16);
  const at::Tensor out = at::empty_like(x, x.options().dtype(at::kBFloat16));
  convert<std::uint32_t, std::uint16_t>(round_kernel, x, out);
  return out;
}

}  // namespace

bool keeps_rounded(const at::Tensor& x) {
  // Inference tensors have no backward pass before them.
  return current_products() == Products::kBFloat16 && x.scalar_type() == at::kFloat && !x.is_inference();
}

at::Tensor kept(const at::Tensor& x) {
  if (!keeps_rounded(x)) return x;
  const at::NoGradGuard no_grad;
  const at::Tensor values = x.detach();
  if (!values.is_non_overlapping_and_dense()) return values.to(at::kBFloat16);
  at::Tensor rounded = found(values);
  if (!rounded.defined()) {
    rounded = rounded_elements(values.as_strided({values.numel()}, {1}));
    latest = Latest{values.storage().getWeakStorageImpl(), rounded.storage().getWeakStorageImpl(),
                    values.storage_offset(), values.numel(), version_of(values)};
  }
  return rounded.as_strided(values.sizes(), values.strides());
}

at::Tensor taken(const at::Tensor& kept, at::ScalarType dtype) {
  const bool widens = kept.scalar_type() == at::kBFloat16 && dtype == at::kFloat;
  if (!widens || !kept.is_cpu() || !kernels_are_on() || !kept.is_non_overlapping_and_dense()) return kept.to(dtype);
  const at::Tensor out = at::empty_strided(kept.sizes(), kept.strides(), kept.options().dtype(at::kFloat));
  convert<std::uint16_t, std::uint32_t>(widen_kernel, kept, out);
  return out;
}

}  // namespace mla
