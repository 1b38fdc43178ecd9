// One key/value head that stands for all KV heads of a layer, in closed form: the matrices of kind `mfa` from those of
// a grouped-query layer. Ours: the papers of MFA train from nothing.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "core/attention/grouped_query.h"

namespace mla {

/// A layer's maps with their biases as a last column (zeros where there is none), float64.
struct BiasedWeights {
  HeadFields heads;
  std::int64_t kv_width = 0;     ///< kv_heads * head_dim
  at::Tensor query, key, value;  ///< [heads * head_dim, hidden + 1], [kv_width, hidden + 1] twice
  at::Tensor output;             ///< [hidden, heads * head_dim], no bias
};
BiasedWeights biased_weights(const GroupedQueryAttention& attention);

/// The moment of (x, 1) on calibration inputs x, [hidden + 1, hidden + 1], from E[x x^T] and E[x]; a small share of its
/// mean energy is added to every direction of x, so that those count that no calibration token takes.
at::Tensor biased_moment(const at::Tensor& second_moment, const at::Tensor& mean);
/// The same without data: every direction of x alike, and the bias as one of them.
at::Tensor equal_moment(std::int64_t hidden);

/// What was there by the measure of an approximation, and what it loses.
struct SharedEnergy {
  double all = 0, lost = 0;
};

/// A key for all KV heads, before its rotation, and the queries that meet it. Its dims k and k + pairs.size() are a
/// pair, which turns with the model's pair pairs[k].
struct SharedKey {
  std::vector<std::int64_t> pairs;
  at::Tensor key;     ///< [2 * pairs, hidden + 1]
  at::Tensor query;   ///< [heads * 2 * pairs, hidden + 1]
  at::Tensor energy;  ///< mean square of each pair of the key, [pairs]
  SharedEnergy keys;
};

/// All keys of one frequency turn alike, whatever their KV head, so that complex combinations of them turn likewise: of
/// the vectors of KV heads' pairs the leading eigenvectors are kept, over all frequencies the `pairs` largest ones.
/// Errors of KV head g count as much as its queries are large: the eigenvalues are then mean squared errors of logits,
/// but for the phase between query and key. All of them: each KV head's pairs as they are, exactly.
SharedKey shared_key(const BiasedWeights& source, const at::Tensor& moment, std::int64_t pairs);

/// A value for all KV heads and the output projection that reads it of each head.
struct SharedValue {
  at::Tensor value;   ///< [width, hidden + 1]
  at::Tensor output;  ///< [hidden, heads * width]
  SharedEnergy values;
};

/// The leading directions of all KV heads' values together, where an error counts as much as the output projection
/// makes of it (heads taken as independent). All of them: the values as they are, exactly.
SharedValue shared_value(const BiasedWeights& source, const at::Tensor& moment, std::int64_t width);

/// A key of `key`'s pairs and of `width - 2 * pairs` elements more, from which values are read: the output projection
/// reads, in place of values, their regression on the whole key before rotation. The elements more are the leading
/// directions of what the key's pairs leave of the values, and no query meets them. They stand behind the pairs in both
/// halves of the key. Pairs are made smaller, or larger, towards the size of values, and queries the other way, so that
/// training moves what reads them no further than what it stands for.
struct ReusedKey {
  std::vector<std::int64_t> pairs;
  at::Tensor key, query, energy;  ///< as in SharedKey, of all pairs
  at::Tensor output;              ///< [hidden, heads * width]
  SharedEnergy values;
};
ReusedKey reused_key(const BiasedWeights& source, const at::Tensor& moment, const SharedKey& shared, std::int64_t width,
                     std::int64_t slowest_pair);

/// The queries' matrix, [heads * width, hidden], as up down of a rank, where an error counts as much as the keys' pairs
/// are large and inputs are frequent.
struct FactoredQueries {
  at::Tensor down, up;
};
FactoredQueries factored_queries(const at::Tensor& query, const at::Tensor& pair_energy, const at::Tensor& moment,
                                 std::int64_t rank);

}  // namespace mla
