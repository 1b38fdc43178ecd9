#include "core/serve/identity_norm.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "core/serve/deepseek_form.h"

namespace mla {
namespace {

/// The largest share of sqrt(epsilon) that a shrunk latent may have: its square, halved, is the relative error.
constexpr double kSmallest = 1e-4;
/// float16 keeps numbers of this share of ordinary weights exactly enough; more of it is lost in both halves.
constexpr double kNarrowHalf = 0x1p-10;
constexpr double kLargestHalf = 65504;

/// The next power of two below: exact in every binary type.
double power_of_two(double value) { return std::exp2(std::floor(std::log2(value))); }

}  // namespace

double IdentityNorm::weight() const { return std::sqrt(epsilon) / shrink(); }

double IdentityNorm::error(double rms) const { return std::pow(shrink() * rms, 2) / (2 * epsilon); }

IdentityNorm identity_norm(double source_epsilon, double epsilon, double largest_rms, bool narrow,
                           double largest_query) {
  IdentityNorm norm;
  norm.epsilon = epsilon;
  if (epsilon != source_epsilon) norm.residual = std::sqrt(epsilon / source_epsilon);
  if (narrow) {
    const double room = kLargestHalf / 2 / std::max(largest_query, 1.0);
    norm.input = std::max(kNarrowHalf, power_of_two(1 / room) * 2);
    norm.latent = kNarrowHalf;
  } else if (largest_rms > 0) {
    norm.latent = std::min(1.0, power_of_two(kSmallest * std::sqrt(epsilon) / largest_rms));
  }
  return norm;
}

void apply_norm(const IdentityNorm& norm, DeepSeekLayer& layer) {
  const std::int64_t latent = layer.kv_a_norm.size(0), rotated = layer.kv_a.size(0) - latent;
  layer.kv_a_norm.fill_(norm.weight());
  layer.kv_a.narrow(0, 0, latent).mul_(norm.latent);
  if (layer.kv_a_bias.defined()) layer.kv_a_bias.narrow(0, 0, latent).mul_(norm.shrink());
  if (norm.input != 1) {
    layer.input_norm = layer.input_norm * norm.input;
    layer.query.div_(norm.input);
    layer.kv_a.narrow(0, latent, rotated).div_(norm.input);
  }
  if (norm.residual == 1) return;
  layer.output = layer.output * norm.residual;
  layer.down = layer.down * norm.residual;
  if (layer.output_bias.defined()) layer.output_bias = layer.output_bias * norm.residual;
}

}  // namespace mla
