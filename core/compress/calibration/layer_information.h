// How much the states of one layer say about those of another: the similarity by which MKA chooses layers to merge
// (arXiv 2406.16330, sections 3.2 and 3.3, as in its public functions).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "core/base/error.h"

namespace mla {

/// A field list makes it readable from a config; defaults are those of the public code.
struct LayerInformationOptions {
  double sigma = 8, alpha = 0.5;
  std::int64_t dims = 2, neighbours = 5, entropy_neighbours = 50;
  std::int64_t noise_draws = 5;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("sigma", self.sigma, "width of the diffusion kernel exp(-(distance / sigma)^0.5)");
    visit("alpha", self.alpha, "how far the points' density is divided out of it");
    visit("dims", self.dims, "coordinates of the diffusion map");
    visit("neighbours", self.neighbours, "nearest neighbours for mutual information");
    visit("entropy_neighbours", self.entropy_neighbours, "nearest neighbours for entropy; fewer than there are points");
    visit("noise_draws", self.noise_draws, "draws of the noise that breaks ties of ranks, averaged over");
  }
  /// Throws ConfigError naming `path`.
  void validate(const std::string& path) const;
};

struct DiffusionMap {
  at::Tensor coordinates;      ///< float64 [n, dims], each up to its sign
  at::Tensor singular_values;  ///< of the normalised kernel, descending, [n]
};
/// Of points [n, width].
DiffusionMap diffusion_map(const at::Tensor& points, const LayerInformationOptions& options);

/// Each coordinate of points [n, dims] replaced by its rank over n, from 0 on; equal ones in the points' order.
at::Tensor coordinate_ranks(const at::Tensor& points);

/// -mean log(k / (n r^d)) of points [n, d], r the distance to the k-th nearest other point, in nats: the public code's
/// estimate, which lacks the volume of the unit ball.
double neighbour_entropy(const at::Tensor& points, std::int64_t neighbours);

/// Mutual information of two coordinates [n] in nats (Kraskov, Stögbauer and Grassberger 2004, their first estimator,
/// as scikit-learn has it): 0 at least. Ties are broken by noise of 1e-10, mean over `noise_draws` draws.
double mutual_information(const at::Tensor& a, const at::Tensor& b, const LayerInformationOptions& options);

/// Normalised pairwise information bottleneck of layers whose ranked points [n, dims] are given: the mean mutual
/// information of their coordinates over the root of the product of their entropies; float64 [layers, layers].
at::Tensor information_similarity(const std::vector<at::Tensor>& ranked, const LayerInformationOptions& options);

/// The first layer's share where layers i and j are merged: sigmoid(s_i / (s_i + s_j)) of their mean similarities.
double fusion_ratio(const at::Tensor& similarity, std::int64_t i, std::int64_t j);

}  // namespace mla
