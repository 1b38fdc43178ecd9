// Elements stored apart: how many there are, and where.
#include <ATen/ATen.h>

#include "core/quantize/codec.h"

namespace mla {

std::int64_t SparseRows::rows() const {
  if (spread.defined()) return spread.numel() / spread.size(-1);
  return end.defined() ? end.numel() : 0;
}

std::int64_t SparseRows::entries() const {
  if (spread.defined()) return spread.isnan().logical_not().sum().item<std::int64_t>();
  return value.defined() ? value.numel() : 0;
}

SparseRows compacted(const SparseRows& sparse) {
  if (!sparse.spread.defined()) return sparse;
  const std::int64_t width = sparse.spread.size(-1);
  const at::Tensor rows = sparse.spread.reshape({-1, width}), entry = rows.isnan().logical_not();
  const at::Tensor place = entry.flatten().nonzero().squeeze(1);  // row by row, channels ascending
  SparseRows compact;
  compact.end = entry.sum(1).cumsum(0).to(at::kInt);
  compact.channel = place.remainder(width).to(at::kShort);
  compact.value = rows.flatten().index_select(0, place);
  return compact;
}

}  // namespace mla
