// What a strategy needs to know of a model's behaviour on calibration data: places of the forward pass, and what is
// kept of what passes there.
#pragma once

#include <ATen/core/Tensor.h>

#include <compare>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "core/attention/taps.h"

namespace mla {

/// What is kept of the tensors at one tap, gathered batch by batch in float64. One file under reducers/ each,
/// registered by name.
class Reducer {
 public:
  static constexpr const char* kKind = "reducer";
  struct Options {  ///< of a reducer without any
    template <class Self, class Visitor>
    static void fields(Self&, Visitor&) {}
  };
  virtual ~Reducer() = default;

  /// Whether it compares what two taps of a layer show.
  virtual bool joins_taps() const { return false; }
  /// Whether it compares layers, so that there is one statistic of them all.
  virtual bool spans_layers() const { return false; }

  /// Takes a batch as the taps show it (core/attention/taps.h): one tensor, two where it joins taps, one for each layer
  /// that shows the tap where it spans layers.
  virtual void add(const std::vector<at::Tensor>& batch) = 0;

  /// The statistic of all `tokens` tokens added, float64.
  virtual at::Tensor result(std::int64_t tokens) const = 0;
};

/// One statistic of every layer that shows the tap, or of all layers together.
struct Requirement {
  Tap tap = Tap::kLayerInput;
  std::string reducer;  ///< registered name
  /// The reducer's options that differ from their defaults, as the text of a JSON object; empty: none.
  std::string options{};
  std::optional<Tap> with{};  ///< the second tap, of a reducer that joins two
  /// Of the gradient, instead, of a row's loss (the sum of -log p of its tokens after the first) by what the tap shows.
  bool gradient = false;

  auto operator<=>(const Requirement&) const = default;
  /// "key.pair_norms", "gradient:layer_output.second_moment", "layer_input+layer_output.cross_moment",
  /// "key.samples{"tokens":64}".
  std::string name() const;
  /// Reads name() back; nothing for what no requirement is called.
  static std::optional<Requirement> parse(const std::string& name);
};
using Requirements = std::set<Requirement>;

/// Stands for the layer in the key of a statistic of all layers.
inline constexpr std::int64_t kAllLayers = -1;

/// Mean 2-norm of each rotation pair of queries and of keys (MHA2MLA appendix A), float64 [heads, head_dim / 2].
inline const Requirement kQueryPairNorms{Tap::kQuery, "pair_norms"}, kKeyPairNorms{Tap::kKey, "pair_norms"};
/// E[k k^T] of all KV heads' keys before rotation, float64 [kv_heads * head_dim, kv_heads * head_dim].
inline const Requirement kKeySecondMoment{Tap::kKey, "second_moment"};
/// E[x x^T] of what keys and values are projected from, float64 [hidden, hidden].
inline const Requirement kInputMoment{Tap::kAttentionInput, "second_moment"};
/// E[x] of the same, float64 [hidden].
inline const Requirement kInputMean{Tap::kAttentionInput, "mean"};

}  // namespace mla
