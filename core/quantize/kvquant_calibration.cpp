// KVQuant's thresholds and codebooks from samples.
#include <ATen/ATen.h>

#include <algorithm>

#include "core/base/error.h"
#include "core/quantize/codebook.h"
#include "core/quantize/kvquant_rows.h"
#include "core/quantize/limits.h"

namespace mla {

void calibrate_kvquant(const StreamSample& sample, double quantile, std::int64_t first_tokens, KvQuantOptions& chosen) {
  const at::Tensor values = sample.values.to(at::kCPU, at::kFloat).contiguous();
  if (values.numel() == 0) throw DataError("kvquant: the calibration holds no values");
  expect_encodable(sample.values, values, "kvquant, calibration");
  if (sample.fisher.defined()) {
    const at::Tensor weights = sample.fisher.to(at::kCPU, at::kFloat).contiguous();
    expect_encodable(sample.fisher, weights, "kvquant, weights of the calibration");
    if (weights.lt(0).any().item<bool>()) throw DataError("kvquant: a weight of the calibration is negative");
  }
  const bool key = chosen.tensor == StreamSide::kKey;
  const std::int64_t axis = key ? 0 : 1;
  const at::Tensor sorted = std::get<0>(values.sort(axis));
  const at::Tensor upper = sorted_quantile(sorted, axis, quantile).contiguous(),
                   lower = sorted_quantile(sorted, axis, 1 - quantile).contiguous();
  if (key && chosen.upper.empty()) {
    for (std::int64_t c = 0; c < values.size(1); ++c) {
      chosen.upper.push_back(upper.const_data_ptr<float>()[c]);
      chosen.lower.push_back(lower.const_data_ptr<float>()[c]);
    }
  }
  if (chosen.scheme().codes != KvQuantCodes::kNonUniform || !chosen.codebook.empty()) return;
  const at::Tensor offset = ((upper + lower) / 2).unsqueeze(axis), range = ((upper - lower) / 2).unsqueeze(axis);
  const at::Tensor normalised = (values - offset) / range;
  at::Tensor kept = normalised.abs().le(1);  // no outliers, and no 0 / 0 of channels that never change
  if (first_tokens > 0) kept.narrow(0, 0, std::min(first_tokens, kept.size(0))).fill_(false);
  const at::Tensor points = normalised.masked_select(kept).contiguous();
  const at::Tensor weights = sample.fisher.defined()
                                 ? sample.fisher.to(at::kCPU, at::kFloat).masked_select(kept).contiguous()
                                 : at::ones_like(points);
  if (points.numel() == 0) throw ConfigError("kvquant: the calibration holds nothing but outliers");
  const auto size = static_cast<std::size_t>(points.numel());
  chosen.codebook = weighted_kmeans({points.const_data_ptr<float>(), size}, {weights.const_data_ptr<float>(), size},
                                    std::int64_t{1} << chosen.bits);
}

}  // namespace mla
