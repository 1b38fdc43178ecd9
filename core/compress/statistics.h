// Statistics of what passes through a model on calibration data: named taps, and what is kept of them.
#pragma once

#include <ATen/core/Tensor.h>

#include <compare>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "core/model/decoder.h"
#include "core/partial_rope/selector.h"

namespace mla {

/// What is kept of the tensors at one tap of one layer, gathered batch by batch in float64. One file under reducers/
/// each, registered by name.
class Reducer {
 public:
  static constexpr const char* kKind = "reducer";
  struct Options {
    template <class Self, class Visitor>
    static void fields(Self&, Visitor&) {}
  };
  virtual ~Reducer() = default;

  /// Takes a batch as the tap shows it (core/attention/forward_context.h).
  virtual void add(const at::Tensor& batch) = 0;

  /// The statistic of all `tokens` tokens added, float64.
  virtual at::Tensor result(std::int64_t tokens) const = 0;
};

/// One statistic of every layer that shows the tap.
struct Requirement {
  Tap tap = Tap::kLayerInput;
  std::string reducer;  ///< registered name
  auto operator<=>(const Requirement&) const = default;
  std::string name() const;  ///< "key.pair_norms"
};
using Requirements = std::set<Requirement>;

/// Mean 2-norm of each rotation pair of queries and of keys (MHA2MLA appendix A), float64 [heads, head_dim / 2].
inline const Requirement kQueryPairNorms{Tap::kQuery, "pair_norms"}, kKeyPairNorms{Tap::kKey, "pair_norms"};
/// E[x x^T] of what keys and values are projected from, float64 [hidden, hidden].
inline const Requirement kInputMoment{Tap::kAttentionInput, "second_moment"};

/// What a calibration has gathered of one model: reusable by everything that sees the same model and rows.
class Statistics {
 public:
  /// Tokens that were averaged over.
  std::int64_t tokens = 0;
  /// Stands for the rows, so that work which depends on them is not mixed up with that of others.
  std::string rows_hash;
  std::map<std::pair<Requirement, std::int64_t>, at::Tensor> values;  ///< by requirement and layer, float64

  /// Undefined where the layer does not show the tap. Throws std::logic_error for what was not gathered anywhere.
  at::Tensor at(const Requirement& requirement, std::int64_t layer) const;
  bool covers(const Requirements& requirements) const;

  /// Pair norms of queries and keys as the selections take them.
  PairNorms pair_norms(std::int64_t layer) const;
};

/// How much work one step of calibration takes on.
struct CalibrationOptions {
  std::int64_t batch_tokens = 4096;  ///< tokens per forward pass; more need more memory
};

/// Runs `rows` of token ids through the model once and gathers what is required. No logits are computed.
/// `progress(tokens)` is told of each batch. Throws DataError for no rows, an empty row, or an id outside the
/// vocabulary.
Statistics calibrate(const Decoder& decoder, const std::vector<std::vector<std::int32_t>>& rows,
                     const Requirements& requirements, const CalibrationOptions& options,
                     const std::function<void(std::int64_t)>& progress);

}  // namespace mla
