#include "core/partial_rope/head_components.h"

#include <ATen/ATen.h>

#include <vector>

namespace mla {

at::Tensor head_components(const at::Tensor& key_moment, const HeadGeometry& geometry, std::int64_t group,
                           const HeadFolding& folding) {
  const std::int64_t kv_heads = geometry.kv_heads, fold = folding.fold, groups = geometry.head_dim / 2 / fold,
                     size = kv_heads * fold;
  // [kv_heads, first or partner, group of frequencies, frequency in it], twice.
  const at::Tensor moment = key_moment.reshape({kv_heads, 2, groups, fold, kv_heads, 2, groups, fold});
  const at::Tensor own = moment.select(6, group).select(2, group);  // [kv_heads, 2, fold, kv_heads, 2, fold]
  at::Tensor energy = (own.select(4, 0).select(1, 0) + own.select(4, 1).select(1, 1)).reshape({size, size});
  energy = energy + at::eye(size, energy.options()) * (folding.damping * energy.diagonal().mean());
  const auto [values, vectors] = at::linalg_eigh(energy);  // ascending
  at::Tensor leading = vectors.flip(1);
  // Of each direction the entry of largest size is positive, so that results do not depend on the library's choice.
  const at::Tensor largest = leading.gather(0, leading.abs().argmax(0, true));
  leading = leading * at::where(largest < 0, -1.0, 1.0).to(leading.scalar_type());
  return leading.reshape({kv_heads, fold, size});
}

at::Tensor removed_components(const at::Tensor& key_moment, const HeadGeometry& geometry, const HeadFolding& folding) {
  const std::int64_t kv_heads = geometry.kv_heads, fold = folding.fold, groups = geometry.head_dim / 2 / fold,
                     kept = fold / folding.collapse, removed = kv_heads * fold - kept;
  // Components, first or partner, group; then what a component is made of.
  at::Tensor rows = at::zeros({removed, 2, groups, kv_heads, 2, groups, fold}, key_moment.options());
  for (std::int64_t group = 0; group < groups; ++group) {
    const at::Tensor components =
        head_components(key_moment, geometry, group, folding).narrow(2, kept, removed).permute({2, 0, 1});
    for (const std::int64_t part : {0, 1})
      rows.select(1, part).select(1, group).select(2, part).select(2, group).copy_(components);
  }
  return rows.reshape({-1, kv_heads * geometry.head_dim});
}

}  // namespace mla
