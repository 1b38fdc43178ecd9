#include <ATen/ATen.h>

#include <algorithm>
#include <limits>
#include <vector>

#include "core/quantize/kvquant_rows.h"
#include "core/quantize/packed_operations.h"

namespace mla {
namespace {

/// Distances between elements and codebook that are there at a time.
constexpr std::int64_t kDistancesAtOnce = std::int64_t{1} << 26;

/// The nearest entry of a codebook in any order, the first of equals; uint8.
at::Tensor nearest_entries(const at::Tensor& x, const at::Tensor& book) {
  const std::int64_t at_once = std::max<std::int64_t>(1, kDistancesAtOnce / (x.size(1) * book.numel()));
  std::vector<at::Tensor> parts;
  for (std::int64_t begin = 0; begin < x.size(0); begin += at_once) {
    const at::Tensor some = x.narrow(0, begin, std::min(at_once, x.size(0) - begin));
    parts.push_back((some.unsqueeze(-1) - book).abs().argmin(-1).to(at::kByte));
  }
  return parts.size() == 1 ? parts.front() : at::cat(parts);
}

at::Tensor codes_of(const at::Tensor& x, const at::Tensor& scale, const at::Tensor& zero, const KvQuantScheme& scheme,
                    const at::Tensor& search) {
  if (scheme.codes != KvQuantCodes::kUniform) return nearest_entries((x - zero) / scale, search);
  const double levels = (1 << scheme.bits) - 1;
  return at::round(scale * x - zero).clamp(0, levels).nan_to_num(0.0).to(at::kByte);
}

/// Of `beyond`, outliers on one side, the `most` farthest of each row; of equals the first ones.
at::Tensor farthest(const at::Tensor& beyond, const at::Tensor& distance, std::int64_t most) {
  if (most <= 0 || most >= beyond.size(1)) return beyond;
  const at::Tensor order = std::get<1>(
      at::sort(at::where(beyond, distance, std::numeric_limits<double>::infinity()), /*stable=*/true, 1, false));
  return at::zeros_like(beyond).scatter_(1, order.narrow(1, 0, most), true).logical_and(beyond);
}

at::Tensor key_outliers(const at::Tensor& x, const KvQuantScheme& scheme, const KvQuantTables& tables) {
  const at::Tensor range = tables.upper - tables.lower;
  return farthest(x.gt(tables.upper), (tables.upper - x) / range, scheme.most_outliers)
      .logical_or(farthest(x.lt(tables.lower), -(tables.lower - x) / range, scheme.most_outliers));
}

/// Scales and zeros of rows, [rows, 1], and which of their elements stand apart.
struct ValueRanges {
  at::Tensor scale, zero, outlier;
};

ValueRanges value_ranges(const at::Tensor& x, const KvQuantScheme& scheme) {
  ValueRanges found;
  at::Tensor kept = x;
  if (scheme.sparse) {
    const at::Tensor sorted = std::get<0>(x.sort(1));
    const at::Tensor upper = sorted_quantile(sorted, 1, scheme.quantile).unsqueeze(1),
                     lower = sorted_quantile(sorted, 1, 1 - scheme.quantile).unsqueeze(1);
    found.outlier = x.ge(upper).logical_or(x.le(lower));
    kept = at::where(found.outlier, sorted.narrow(1, (x.size(1) - 1) / 2, 1), x);
  }
  const auto [low, high] = at::aminmax(kept, 1, true);
  const at::Tensor range = high - low;
  const auto unless_empty = [&](const at::Tensor& scale) { return at::where(range.gt(0), scale, 1.0); };
  if (scheme.codes == KvQuantCodes::kUniform) {
    found.scale = unless_empty(number_beside(x, 1) / range * ((1 << scheme.bits) - 1));
    found.zero = low * found.scale;
  } else {
    found.scale = unless_empty(range / 2);
    found.zero = (high + low) / 2;
  }
  if (scheme.half_scales) {
    found.scale = as_half(found.scale);
    found.zero = as_half(found.zero);
  }
  return found;
}

}  // namespace

KvQuantTables KvQuantTables::on(at::Device device) const {
  KvQuantTables there = *this;
  for (at::Tensor* table : {&there.search, &there.codebook, &there.upper, &there.lower, &there.scale, &there.zero}) {
    if (table->defined()) *table = table->to(at::device(device), /*non_blocking=*/true);
  }
  return there;
}

at::Tensor sorted_quantile(const at::Tensor& sorted, std::int64_t axis, double q) {
  const double place = q * static_cast<double>(sorted.size(axis) - 1);
  const auto below = static_cast<std::int64_t>(place);
  const std::int64_t above = std::min(below + 1, sorted.size(axis) - 1);
  const at::Tensor a = sorted.select(axis, below).to(at::kDouble), b = sorted.select(axis, above).to(at::kDouble);
  return (a + (b - a) * (place - static_cast<double>(below))).to(at::kFloat);
}

KvQuantRows kvquant_rows_by_operations(const at::Tensor& rows, const KvQuantScheme& scheme,
                                       const KvQuantTables& tables) {
  KvQuantRows made;
  at::Tensor outlier;
  if (scheme.key) {
    if (scheme.sparse) outlier = key_outliers(rows, scheme, tables);
    made.codes = codes_of(rows, tables.scale, tables.zero, scheme, tables.search);
  } else {
    const ValueRanges own = value_ranges(rows, scheme);
    outlier = own.outlier;
    made.codes = codes_of(rows, own.scale, own.zero, scheme, tables.search);
    made.scale = own.scale.squeeze(1);
    made.zero = own.zero.squeeze(1);
  }
  if (!scheme.sparse) return made;
  made.codes = made.codes.masked_fill(outlier, 0);
  made.sparse.spread = at::where(outlier, rows, std::numeric_limits<double>::quiet_NaN()).to(at::kHalf);
  return made;
}

}  // namespace mla
