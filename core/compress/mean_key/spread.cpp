#include "core/compress/mean_key/spread.h"

#include <ATen/ATen.h>

#include <numbers>

namespace mla {
namespace {

/// The least factor of an element, in the largest one.
constexpr double kLeastFactor = 1e-3;

/// The orthogonal cosine transform of type II: no element larger than sqrt(2 / n), without anything random.
at::Tensor cosine_transform(std::int64_t n) {
  const auto options = at::TensorOptions(at::kDouble);
  const at::Tensor row = at::arange(n, options).unsqueeze(1), column = at::arange(n, options);
  at::Tensor matrix = at::cos(row * (column + 0.5) * (std::numbers::pi / static_cast<double>(n)));
  return matrix / matrix.square().sum(1, true).sqrt();
}

}  // namespace

void spread_latent(MeanKeyMaps& maps) {
  const std::int64_t latent = maps.latent_down.size(0);
  if (latent == 0) return;
  at::Tensor factors = maps.latent_weight.clamp_min(0).pow(0.25);
  const double largest = factors.max().item<double>();
  if (!(largest > 0)) return;
  factors = factors.clamp_min(kLeastFactor * largest);
  factors = factors / factors.square().mean().sqrt();  // as large as slots, on average
  const at::Tensor mixed = cosine_transform(latent), onto = mixed * factors, back = (mixed / factors).t();
  maps.latent_down = at::matmul(onto, maps.latent_down);
  const std::int64_t others = maps.down_bias.size(0) - latent;
  maps.down_bias =
      at::cat({at::mv(onto, maps.down_bias.narrow(0, 0, latent)), maps.down_bias.narrow(0, latent, others)});
  for (at::Tensor* up : {&maps.key_up, &maps.value_up}) {
    *up = at::cat({at::matmul(up->narrow(2, 0, latent), back), up->narrow(2, latent, up->size(2) - latent)}, 2);
  }
}

}  // namespace mla
