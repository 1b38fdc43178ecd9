#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <span>
#include <vector>

#include "core/quantize/kvquant_rows.h"

namespace mla {
namespace {

float rounded_to_half(float x) { return static_cast<float>(at::Half(x)); }

/// The q-quantile of sorted values, linear between neighbours.
float row_quantile(std::span<const float> sorted, double q) {
  const double place = q * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<std::size_t>(place);
  const std::size_t above = std::min(below + 1, sorted.size() - 1);
  return static_cast<float>(sorted[below] + (static_cast<double>(sorted[above]) - sorted[below]) *
                                                (place - static_cast<double>(below)));
}

/// Row after row.
class RowEncoder {
 public:
  RowEncoder(const KvQuantScheme& scheme, const KvQuantTables& tables)
      : scheme_(scheme), levels_(static_cast<float>((1 << scheme.bits) - 1)) {
    if (tables.search.defined()) {
      search_ = {tables.search.const_data_ptr<float>(), static_cast<std::size_t>(tables.search.numel())};
    }
    if (!scheme.key) return;
    upper_ = tables.upper.const_data_ptr<float>();
    lower_ = tables.lower.const_data_ptr<float>();
    scale_ = tables.scale.const_data_ptr<float>();
    zero_ = tables.zero.const_data_ptr<float>();
  }

  /// Writes the codes of one row; its outliers go to the end of those before.
  void encode_key(std::span<const float> x, std::uint8_t* codes) {
    std::vector<bool> outlier(x.size());
    if (scheme_.sparse) {
      for (std::size_t c = 0; c < x.size(); ++c) outlier[c] = x[c] > upper_[c] || x[c] < lower_[c];
      if (scheme_.most_outliers > 0) cap(x, outlier);
    }
    for (std::size_t c = 0; c < x.size(); ++c) put(x[c], c, outlier[c], scale_[c], zero_[c], codes);
    end_row();
  }

  void encode_value(std::span<const float> x, std::uint8_t* codes, float& scale, float& zero) {
    std::vector<float> sorted(x.begin(), x.end());
    std::sort(sorted.begin(), sorted.end());
    std::vector<bool> outlier(x.size());
    float high = sorted.back(), low = sorted.front();
    if (scheme_.sparse) {
      const float upper = row_quantile(sorted, scheme_.quantile), lower = row_quantile(sorted, 1 - scheme_.quantile);
      high = low = sorted[(sorted.size() - 1) / 2];  // the outliers' stand-in
      for (std::size_t c = 0; c < x.size(); ++c) {
        outlier[c] = x[c] >= upper || x[c] <= lower;
        if (!outlier[c]) {
          high = std::max(high, x[c]);
          low = std::min(low, x[c]);
        }
      }
    }
    const float range = high - low;
    if (scheme_.codes == KvQuantCodes::kUniform) {
      scale = range > 0 ? 1 / range * levels_ : 1;
      zero = low * scale;
    } else {
      scale = range > 0 ? range / 2 : 1;
      zero = (high + low) / 2;
    }
    if (scheme_.half_scales) {
      scale = rounded_to_half(scale);
      zero = rounded_to_half(zero);
    }
    for (std::size_t c = 0; c < x.size(); ++c) put(x[c], c, outlier[c], scale, zero, codes);
    end_row();
  }

  SparseRows outliers() const {
    SparseRows sparse;
    sparse.end = at::tensor(ends_, at::kInt);
    sparse.channel = at::tensor(channels_, at::kShort);
    sparse.value = at::empty({static_cast<std::int64_t>(values_.size())}, at::kHalf);
    std::copy(values_.begin(), values_.end(), sparse.value.mutable_data_ptr<at::Half>());
    return sparse;
  }

 private:
  /// Keeps the farthest outliers on each side, as distances in units of the channel's range.
  void cap(std::span<const float> x, std::vector<bool>& outlier) const {
    for (const float side : {1.0F, -1.0F}) {
      std::vector<std::pair<float, std::size_t>> beyond;
      for (std::size_t c = 0; c < x.size(); ++c) {
        const float edge = side > 0 ? upper_[c] : lower_[c], range = upper_[c] - lower_[c];
        if (outlier[c] && side * (x[c] - edge) > 0) beyond.emplace_back(side * (edge - x[c]) / range, c);
      }
      std::sort(beyond.begin(), beyond.end());
      const auto most = static_cast<std::size_t>(scheme_.most_outliers);
      for (std::size_t i = most; i < beyond.size(); ++i) outlier[beyond[i].second] = false;
    }
  }

  std::uint8_t code_of(float x, float scale, float zero) const {
    if (scheme_.codes == KvQuantCodes::kUniform) {
      const float scaled = scale * x;
      return static_cast<std::uint8_t>(std::clamp(std::nearbyint(scaled - zero), 0.0F, levels_));
    }
    const float centred = x - zero, normalised = centred / scale;
    std::size_t nearest = 0;
    float smallest = std::abs(normalised - search_[0]);
    for (std::size_t i = 1; i < search_.size(); ++i) {
      if (const float distance = std::abs(normalised - search_[i]); distance < smallest) {
        smallest = distance;
        nearest = i;
      }
    }
    return static_cast<std::uint8_t>(nearest);
  }

  void put(float x, std::size_t channel, bool outlier, float scale, float zero, std::uint8_t* codes) {
    if (outlier) {
      channels_.push_back(static_cast<std::int16_t>(static_cast<std::uint16_t>(channel)));
      values_.emplace_back(x);
    } else {
      codes[channel] = code_of(x, scale, zero);
    }
  }

  void end_row() { ends_.push_back(static_cast<std::int32_t>(channels_.size())); }

  const KvQuantScheme& scheme_;
  float levels_;
  std::span<const float> search_;
  const float *upper_ = nullptr, *lower_ = nullptr, *scale_ = nullptr, *zero_ = nullptr;
  std::vector<std::int32_t> ends_;
  std::vector<std::int16_t> channels_;
  std::vector<at::Half> values_;
};

}  // namespace

KvQuantRows kvquant_rows_on_host(const at::Tensor& rows, const KvQuantScheme& scheme, const KvQuantTables& tables) {
  const std::int64_t count = rows.size(0), width = rows.size(1);
  KvQuantRows made{at::zeros(rows.sizes(), at::kByte), {}, {}, {}};
  if (!scheme.key) {
    made.scale = at::empty({count}, at::kFloat);
    made.zero = at::empty({count}, at::kFloat);
  }
  RowEncoder encoder(scheme, tables);
  for (std::int64_t row = 0; row < count; ++row) {
    const std::span<const float> from(rows.const_data_ptr<float>() + row * width, static_cast<std::size_t>(width));
    std::uint8_t* codes = made.codes.mutable_data_ptr<std::uint8_t>() + row * width;
    if (scheme.key) {
      encoder.encode_key(from, codes);
    } else {
      encoder.encode_value(from, codes, made.scale.mutable_data_ptr<float>()[row],
                           made.zero.mutable_data_ptr<float>()[row]);
    }
  }
  if (scheme.sparse) made.sparse = encoder.outliers();
  return made;
}

}  // namespace mla
