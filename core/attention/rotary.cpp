#include "core/attention/rotary.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

#include "core/base/error.h"

namespace mla {
namespace {

/// yarn's temperature (arXiv 2309.00071, section 3.3): 0.1 m ln(s) + 1.
double yarn_temperature(double factor, double mscale) {
  return factor <= 1 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0;
}

double yarn_attention_factor(const RotaryScaling& scaling) {
  if (scaling.attention_factor) return *scaling.attention_factor;
  const double mscale = scaling.mscale.value_or(0), all = scaling.mscale_all_dim.value_or(0);
  if (mscale != 0 && all != 0) return yarn_temperature(scaling.factor, mscale) / yarn_temperature(scaling.factor, all);
  return yarn_temperature(scaling.factor, 1);
}

/// LongRoPE's (arXiv 2402.13753, as Phi-3 computes it).
double longrope_attention_factor(const RotaryScaling& scaling) {
  if (scaling.attention_factor) return *scaling.attention_factor;
  if (scaling.factor <= 1) return 1;
  return std::sqrt(1 + std::log(scaling.factor) / std::log(static_cast<double>(scaling.original_positions)));
}

/// Llama 3.1: slow pairs are divided by the factor, fast ones kept, those between blended.
double llama3_frequency(double frequency, const RotaryScaling& scaling) {
  const double original = static_cast<double>(scaling.original_positions);
  const double wavelength = 2 * std::numbers::pi / frequency;
  if (wavelength < original / scaling.high_frequency_factor) return frequency;
  if (wavelength > original / scaling.low_frequency_factor) return frequency / scaling.factor;
  const double blend = (original / wavelength - scaling.low_frequency_factor) /
                       (scaling.high_frequency_factor - scaling.low_frequency_factor);
  return (1 - blend) * frequency / scaling.factor + blend * frequency;
}

/// yarn's ramp: 0 for pairs that keep their frequency, 1 for pairs that are interpolated.
std::vector<double> yarn_ramp(const RotaryScaling& scaling, double theta, std::int64_t head_dim) {
  const double dim = static_cast<double>(head_dim), original = static_cast<double>(scaling.original_positions);
  const auto pair_with_rotations = [&](double rotations) {
    return dim * std::log(original / (rotations * 2 * std::numbers::pi)) / (2 * std::log(theta));
  };
  double low = pair_with_rotations(scaling.beta_fast), high = pair_with_rotations(scaling.beta_slow);
  if (scaling.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, dim - 1);
  if (low == high) high += 0.001;
  std::vector<double> ramp(static_cast<std::size_t>(head_dim / 2));
  for (std::size_t k = 0; k < ramp.size(); ++k) {
    ramp[k] = std::clamp((static_cast<double>(k) - low) / (high - low), 0.0, 1.0);
  }
  return ramp;
}

}  // namespace

Rotary::Rotary(double theta, std::int64_t head_dim, std::int64_t max_positions, RotaryScaling scaling)
    : theta_(theta), head_dim_(head_dim), max_positions_(max_positions), scaling_(std::move(scaling)) {
  if (scaling_.type == "yarn") logit_scale_ = std::pow(yarn_attention_factor(scaling_), 2);
  if (scaling_.type == "longrope") logit_scale_ = std::pow(longrope_attention_factor(scaling_), 2);
}

Rotary Rotary::still(std::int64_t head_dim) {
  Rotary rotary;
  rotary.head_dim_ = head_dim;
  rotary.still_ = true;
  return rotary;
}

at::Tensor Rotary::frequencies(std::int64_t length) const {
  const std::int64_t pairs = head_dim_ / 2;
  if (still_) return at::zeros({pairs}, at::kDouble);
  const double dim = static_cast<double>(head_dim_);
  double theta = theta_;
  if (scaling_.type == "dynamic") {
    const double reach = static_cast<double>(std::max(length, max_positions_)) / static_cast<double>(max_positions_);
    theta *= std::pow(scaling_.factor * reach - (scaling_.factor - 1), dim / (dim - 2));
  }
  std::vector<double> values(static_cast<std::size_t>(pairs));
  for (std::size_t k = 0; k < values.size(); ++k) values[k] = std::pow(theta, -2.0 * static_cast<double>(k) / dim);
  if (scaling_.type == "linear") {
    for (double& value : values) value /= scaling_.factor;
  } else if (scaling_.type == "llama3") {
    for (double& value : values) value = llama3_frequency(value, scaling_);
  } else if (scaling_.type == "longrope") {
    const auto& factors = length > scaling_.original_positions ? scaling_.long_factors : scaling_.short_factors;
    for (std::size_t k = 0; k < values.size(); ++k) values[k] /= factors.at(k);
  } else if (scaling_.type == "yarn") {
    const std::vector<double> ramp = yarn_ramp(scaling_, theta_, head_dim_);
    for (std::size_t k = 0; k < values.size(); ++k) {
      values[k] = values[k] / scaling_.factor * ramp[k] + values[k] * (1 - ramp[k]);
    }
  }
  return at::tensor(values, at::kDouble);
}

RotaryTable Rotary::table(std::int64_t first, std::int64_t count, std::int64_t length,
                          const at::TensorOptions& like) const {
  const at::Tensor positions = at::arange(first, first + count, at::kDouble);
  const at::Tensor angles = at::outer(positions, frequencies(length));
  return {angles.cos().to(like, /*non_blocking=*/true), angles.sin().to(like, /*non_blocking=*/true)};
}

}  // namespace mla
