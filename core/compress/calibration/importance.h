// How much the loss depends on parts of a layer's weights: Taylor scores of channels, heads and groups of heads, as
// LLM-Pruner defines them (arXiv 2305.11627 and its public code), on which SAAP (2412.15127) builds.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "core/attention/linear.h"
#include "core/attention/spec.h"
#include "core/compress/calibration/rows.h"
#include "core/model/decoder.h"

namespace mla {

/// What a weight w counts, with the gradient g of the mean loss and f, the mean over rows of the square of a row's own:
enum class TaylorOrder {
  kFirst,   ///< w g
  kSecond,  ///< w f w
  kMixed,   ///< w g - w f w / 2
};
inline std::vector<std::pair<std::string, TaylorOrder>> enum_names(TaylorOrder) {
  return {{"first", TaylorOrder::kFirst}, {"second", TaylorOrder::kSecond}, {"mixed", TaylorOrder::kMixed}};
}

/// How a structure's two scores become one.
enum class ImportanceScore {
  kElement,
  kVector,
  kFused,      ///< both, each over its mean in the layer: ours, as the paper's fusion is not public
  kGeometric,  ///< the sum of their logarithms: ours, likewise
};
inline std::vector<std::pair<std::string, ImportanceScore>> enum_names(ImportanceScore) {
  return {{"element", ImportanceScore::kElement},
          {"vector", ImportanceScore::kVector},
          {"fused", ImportanceScore::kFused},
          {"geometric", ImportanceScore::kGeometric}};
}
at::Tensor one_score(ImportanceScore score, const at::Tensor& element, const at::Tensor& vector);

/// Scores of a layer's structures, float64 on the host.
struct StructureScores {
  at::Tensor query_heads;   ///< [heads]; undefined, as kv_groups, where the layer's attention is not grouped-query
  at::Tensor kv_groups;     ///< [kv_heads], a KV head with the query heads that read it
  at::Tensor feed_forward;  ///< [intermediate]
};

/// Of one layer. A matrix's channels are the rows of q, k, v, gate and up, the columns of o and down; their scores are
/// the sums of the sizes of what weights count ("element"), or the size of the sum ("vector"). Structures add up
/// those of their channels.
struct LayerImportance {
  TensorMap element, vector;  ///< by map, "self_attn.q_proj", of each channel
  StructureScores by_element, by_vector;
  /// Standard deviation over mean of the structures' scores over rows, each scored by its own first-order elements.
  StructureScores fluctuation;
};

/// Of every layer, on rows of which each is run forward and backward (core/compress/calibration/loss_gradients.h).
std::vector<LayerImportance> layer_importance(const Decoder& decoder, const TokenRowList& rows, TaylorOrder order);

}  // namespace mla
