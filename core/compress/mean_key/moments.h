// What the closed form of mean-key latent attention knows of a layer: moments of its input and of its attention.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "core/attention/spec.h"
#include "core/attention/taps.h"

namespace mla {

/// Of one layer, float64 on the host; the first position of each row is left out of all of them. p_ij^h is the weight
/// of key j for query i in head h, v_j a value, W_o^h the head's part of the output projection; d the hidden width.
struct MeanKeyMoments {
  at::Tensor mean, covariance;  ///< of the attention input: [d], [d, d], tokens weighed by their importance
  at::Tensor queries;           ///< [heads, head_dim, head_dim]: mean of q q^T, before rotation
  /// complex [heads, pairs]: mean over queries of sum_j p_ij e^(i theta (i - j)), the factor that best stands for a
  /// rotation that is left out.
  at::Tensor gain;
  /// [heads]: mean over queries of sum_j W_ij, with W_ij = p_ij^2 |W_o (v_j - sum_k p_ik v_k)|^2 the squared change of
  /// the output for a change of one logit by one; the token's importance is sum over heads and queries of W_ij.
  at::Tensor logit_weight;
  at::Tensor value_weight;  ///< [heads]: mean over queries of sum_j p_ij^2
};

/// Adds up the moments of one layer of grouped-query attention while rows pass through it.
class MeanKeyGathering {
 public:
  /// `output` [hidden, heads * head_dim], float64; `frequencies` those of the rotation pairs, float64. What attention
  /// weights are needed for is measured on the first `attention_rows` rows that come; tokens are weighed by importance
  /// on these, or, without `importance`, all alike on all rows.
  MeanKeyGathering(const HeadFields& heads, double scale, const at::Tensor& output, const at::Tensor& frequencies,
                   std::int64_t attention_rows, bool importance);

  static std::vector<Tap> taps();
  /// Told of each of these in turn, batch by batch.
  void see(Tap tap, const at::Tensor& tensor);
  MeanKeyMoments result() const;

 private:
  void add_input(const at::Tensor& rows, const at::Tensor& weights);
  void add_batch();
  void add_attention(std::int64_t first, std::int64_t count);
  void add_gain(const at::Tensor& weights);

  HeadFields heads_;
  double scale_;
  at::Tensor grams_;  ///< [heads, head_dim, head_dim]: W_o^T W_o of each head
  at::Tensor frequencies_;
  std::int64_t attention_rows_, rows_seen_ = 0;
  bool importance_;
  at::Tensor input_, query_, value_, rotated_query_, rotated_key_;  ///< of the batch under way
  at::Tensor mass_, sum_, square_;                                  ///< of the input, weighed
  at::Tensor queries_, gain_cosine_, gain_sine_, logit_weight_, value_weight_;
  double query_count_ = 0, attention_count_ = 0;
};

}  // namespace mla
