#include "core/compress/calibration/layer_information.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "core/base/random.h"

namespace mla {
namespace {

constexpr double kTieNoise = 1e-10;

/// The logarithmic derivative of the gamma function, of whole numbers: -gamma + 1 + 1/2 + … + 1/(n - 1).
double digamma(std::int64_t n) {
  constexpr double kEuler = 0.57721566490153286061;
  double sum = -kEuler;
  for (std::int64_t i = 1; i < n; ++i) sum += 1 / static_cast<double>(i);
  return sum;
}

std::vector<double> values_of(const at::Tensor& x) {
  const at::Tensor values = x.to(at::kCPU, at::kDouble).contiguous();
  return {values.const_data_ptr<double>(), values.const_data_ptr<double>() + values.numel()};
}

/// Divided by its standard deviation, with noise that breaks ties.
std::vector<double> scaled(const at::Tensor& coordinate, RandomStream& noise) {
  std::vector<double> x = values_of(coordinate);
  const auto n = static_cast<double>(x.size());
  const double mean = std::accumulate(x.begin(), x.end(), 0.0) / n;
  double variance = 0, size = 0;
  for (const double value : x) variance += (value - mean) * (value - mean) / n;
  const double scale = variance > 0 ? std::sqrt(variance) : 1;
  for (double& value : x) size += std::abs(value /= scale) / n;
  for (double& value : x) value += kTieNoise * std::max(1.0, size) * noise.normal();
  return x;
}

/// Points no further than `radius` from point `i`, itself among them.
std::int64_t count_within(const std::vector<double>& x, std::size_t i, double radius) {
  return std::count_if(x.begin(), x.end(), [&](double value) { return std::abs(value - x[i]) <= radius; });
}

double information_once(const std::vector<double>& a, const std::vector<double>& b, std::int64_t neighbours) {
  const std::size_t n = a.size();
  double around = 0;
  std::vector<double> distances(n);
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t j = 0; j < n; ++j) distances[j] = std::max(std::abs(a[i] - a[j]), std::abs(b[i] - b[j]));
    std::nth_element(distances.begin(), distances.begin() + neighbours, distances.end());
    const double radius = std::nextafter(distances[static_cast<std::size_t>(neighbours)], 0.0);
    around += digamma(count_within(a, i, radius)) + digamma(count_within(b, i, radius));
  }
  return digamma(static_cast<std::int64_t>(n)) + digamma(neighbours) - around / static_cast<double>(n);
}

}  // namespace

void LayerInformationOptions::validate(const std::string& path) const {
  if (!(sigma > 0)) throw ConfigError(cat(path, ".sigma = ", sigma, ": must be above 0"));
  for (const auto& [name, value] : {std::pair{"dims", dims},
                                    {"neighbours", neighbours},
                                    {"entropy_neighbours", entropy_neighbours},
                                    {"noise_draws", noise_draws}}) {
    if (value < 1) throw ConfigError(cat(path, ".", name, " = ", value, ": must be at least 1"));
  }
}

DiffusionMap diffusion_map(const at::Tensor& points, const LayerInformationOptions& options) {
  const at::Tensor x = points.to(at::kCPU, at::kDouble);
  expects(x.dim() == 2 && x.size(0) > options.dims, "more points than coordinates");
  // Distances by differences: expanded squares lose half the digits of those that are short.
  std::vector<at::Tensor> rows;
  for (std::int64_t i = 0; i < x.size(0); ++i) rows.push_back((x - x[i]).square().sum(-1).sqrt());
  const at::Tensor kernel = at::exp(-(at::stack(rows) / options.sigma).sqrt());
  const at::Tensor density = kernel.sum(0);
  const at::Tensor even = kernel / at::outer(density, density).pow(options.alpha);
  const at::Tensor root = even.sum(0).sqrt();
  const auto [left, values, right] = at::linalg_svd(even / at::outer(root, root), false);
  return {left.narrow(1, 1, options.dims) / left.narrow(1, 0, 1), values};
}

at::Tensor coordinate_ranks(const at::Tensor& points) {
  const at::Tensor order = points.argsort(/*stable=*/true, 0, false);
  return order.argsort(/*stable=*/true, 0, false).to(at::kDouble) / static_cast<double>(points.size(0));
}

double neighbour_entropy(const at::Tensor& points, std::int64_t neighbours) {
  const at::Tensor x = points.to(at::kDouble);
  const std::int64_t n = x.size(0);
  expects(neighbours < n, "fewer neighbours than points");
  const at::Tensor distance = (x.unsqueeze(1) - x.unsqueeze(0)).square().sum(-1).sqrt();
  const at::Tensor radius = std::get<0>(distance.sort(1)).select(1, neighbours);
  const double share = static_cast<double>(neighbours) / static_cast<double>(n);
  return static_cast<double>(x.size(1)) * radius.log().mean().item<double>() - std::log(share);
}

double mutual_information(const at::Tensor& a, const at::Tensor& b, const LayerInformationOptions& options) {
  expects(a.numel() == b.numel() && options.neighbours < a.numel(), "fewer neighbours than points");
  double sum = 0;
  for (std::int64_t draw = 0; draw < options.noise_draws; ++draw) {
    RandomStream noise(static_cast<std::uint64_t>(draw), "mka.ties");
    const std::vector<double> x = scaled(a, noise), y = scaled(b, noise);
    sum += std::max(0.0, information_once(x, y, options.neighbours));
  }
  return sum / static_cast<double>(options.noise_draws);
}

at::Tensor information_similarity(const std::vector<at::Tensor>& ranked, const LayerInformationOptions& options) {
  const auto layers = static_cast<std::int64_t>(ranked.size());
  std::vector<double> entropies;
  for (const at::Tensor& points : ranked) entropies.push_back(neighbour_entropy(points, options.entropy_neighbours));
  at::Tensor similarity = at::zeros({layers, layers}, at::kDouble);
  for (std::int64_t i = 0; i < layers; ++i) {
    for (std::int64_t j = i; j < layers; ++j) {
      const at::Tensor &a = ranked[static_cast<std::size_t>(i)], &b = ranked[static_cast<std::size_t>(j)];
      double information = 0;
      for (std::int64_t p = 0; p < a.size(1); ++p) {
        for (std::int64_t q = 0; q < b.size(1); ++q)
          information += mutual_information(a.select(1, p), b.select(1, q), options);
      }
      information /= static_cast<double>(a.size(1) * b.size(1));
      // Ranks have negative entropies by this estimate, of which the product is positive.
      const double scale = std::sqrt(std::abs(entropies[static_cast<std::size_t>(i)]) *
                                     std::abs(entropies[static_cast<std::size_t>(j)]));
      const double value = scale > 0 ? information / scale : 0;
      similarity[i][j] = value;
      similarity[j][i] = value;
    }
  }
  return similarity;
}

double fusion_ratio(const at::Tensor& similarity, std::int64_t i, std::int64_t j) {
  const at::Tensor mean = similarity.mean(1);
  const double first = mean[i].item<double>(), second = mean[j].item<double>();
  expects(first + second > 0, "layers that say something about others");
  return 1 / (1 + std::exp(-first / (first + second)));
}

}  // namespace mla
