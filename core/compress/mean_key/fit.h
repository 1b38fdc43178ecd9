// The closed form of mean-key latent attention for one layer: which rotations are kept, and what the latent holds.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "core/attention/spec.h"
#include "core/compress/layers/head_weights.h"
#include "core/compress/mean_key/moments.h"

namespace mla {

/// By what errors of keys and of values are weighed against each other.
enum class MeanKeyMetric {
  kOutput,  ///< what they do to the layer's output, to first order
  kQuery,   ///< moments of queries, and W_o^T W_o, scaled to equal norms
  kNone,    ///< errors as they are, scaled to equal norms
};
inline std::vector<std::pair<std::string, MeanKeyMetric>> enum_names(MeanKeyMetric) {
  return {{"output", MeanKeyMetric::kOutput}, {"query", MeanKeyMetric::kQuery}, {"none", MeanKeyMetric::kNone}};
}

/// Choices of the closed form; all but `dual` and `position` are for ablations.
struct MeanKeyFitOptions {
  bool dual = true;           ///< slots are read as latent, too
  bool position = true;       ///< the mean key is a function of the position, and not cached
  bool centred = true;        ///< the latent holds differences from the mean input; false: no bias anywhere
  bool complex_slots = true;  ///< heads are mixed by complex numbers, which commute with the rotation; false: real ones
  bool sensitivity = true;    ///< slots are weighed by what a lost rotation does; false: by their energy alone
  bool gain = true;           ///< queries of lost rotations are multiplied with MeanKeyMoments::gain
  MeanKeyMetric metric = MeanKeyMetric::kOutput;
};

/// The maps of a converted layer, float64. P pairs, M slots, R latent elements, D = R + 2 M; rows of slots are M real,
/// then M imaginary parts. `read` is D where slots are latent, too, else R.
struct MeanKeyMaps {
  std::vector<std::int64_t> slots;  ///< the pair of each slot
  at::Tensor latent_down;           ///< [R, hidden]
  at::Tensor slot_down;             ///< [2 M, hidden]
  at::Tensor down_bias;             ///< [D], latent first
  at::Tensor slot_queries;          ///< [heads, 2 M, head_dim]: of a query head what its slots are asked with
  at::Tensor position_queries;      ///< [heads, 2 P, head_dim], likewise the mean key's cosines, then sines
  at::Tensor gains;                 ///< [heads, head_dim, head_dim]: queries of keys without rotation
  at::Tensor key_up, value_up;      ///< [kv_heads, head_dim, read]
  at::Tensor output_bias;           ///< [hidden]: what the mean value adds to the source's
  at::Tensor latent_weight;         ///< [R]: what a squared error of a latent element does, by the metric
  std::vector<double> singular_values;
};

/// One layer of grouped-query attention, ready to be converted to any number of slots and latent elements.
class MeanKeyFit {
 public:
  /// `weights` and `moments` of the layer, float64. Where `pairs` is not empty it names those of slots, one of each, in
  /// the order of pairs; else slots are taken from all pairs, most valuable first.
  MeanKeyFit(HeadFields heads, HeadWeights weights, const MeanKeyMoments& moments, MeanKeyFitOptions options,
             std::vector<std::int64_t> pairs = {});

  /// Slots that there are at most, and latent elements that mean anything.
  std::int64_t most_slots() const { return static_cast<std::int64_t>(slots_.size()); }
  std::int64_t most_latent() const;

  /// The maps of `slots` slots and `latent` latent elements. Fewest decompositions: of one number of slots the largest
  /// latent first.
  MeanKeyMaps maps(std::int64_t slots, std::int64_t latent);

 private:
  /// Directions in which keys are rotated: of pair f, sum over KV heads of conj(mixing) weight k_f.
  struct Slot {
    std::int64_t pair = 0;
    double energy = 0;
    at::Tensor mixing;  ///< complex [kv_heads]
  };
  /// What some number of slots leaves to the latent.
  struct Remainder {
    std::int64_t slots = -1;
    at::Tensor directions;   ///< complex [M, hidden]
    at::Tensor down;         ///< [2 M, hidden], scaled
    at::Tensor scales;       ///< [M]
    at::Tensor keys;         ///< [kv_heads, head_dim, hidden] without what slots rebuild
    at::Tensor metric_rows;  ///< what is decomposed
    at::Tensor latent;       ///< [at least the latent asked for, hidden]
    std::vector<double> singular_values;
  };
  void find_roots(const MeanKeyMoments& moments);
  void find_slots(const MeanKeyMoments& moments, const std::vector<std::int64_t>& pairs);
  void find_metric(const MeanKeyMoments& moments);
  void leave_over(std::int64_t slots);
  void decompose(std::int64_t latent);
  at::Tensor metric_rows() const;
  at::Tensor slot_queries() const;
  at::Tensor position_queries() const;
  at::Tensor query_rows(const at::Tensor& factors, const std::vector<std::int64_t>& pairs) const;

  HeadFields heads_;
  HeadWeights weights_;
  MeanKeyFitOptions options_;
  at::Tensor mean_, covariance_, root_, inverse_root_;
  at::Tensor keys_;      ///< complex [kv_heads, pairs, hidden]
  at::Tensor mean_key_;  ///< complex [kv_heads, pairs]
  at::Tensor weight_;    ///< [pairs, kv_heads], of slots
  std::vector<Slot> slots_;
  at::Tensor gains_, key_metric_, value_metric_;  ///< [heads or kv_heads, head_dim, head_dim]
  Remainder left_;
};

}  // namespace mla
