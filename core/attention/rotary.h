// Rotary position embedding: frequencies, their scaling rules, and tables of cosines and sines.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace mla {

/// How frequencies depend on the context length (the `rope_scaling` of a Hugging Face config).
struct RotaryScaling {
  std::string type = "default";  ///< default | linear | dynamic | llama3 | yarn | longrope
  double factor = 1;
  double low_frequency_factor = 1;               ///< llama3
  double high_frequency_factor = 4;              ///< llama3
  std::int64_t original_positions = 0;           ///< llama3, yarn, dynamic, longrope: context length before extension
  double beta_fast = 32, beta_slow = 1;          ///< yarn: rotations at which the ramp begins and ends
  bool truncate = true;                          ///< yarn: round the ramp's ends to whole pairs
  std::optional<double> attention_factor;        ///< yarn, longrope: replaces the computed one
  std::optional<double> mscale, mscale_all_dim;  ///< yarn
  /// longrope (arXiv 2402.13753): what the frequency of each pair is divided by, in sequences up to original_positions
  /// and in longer ones.
  std::vector<double> short_factors, long_factors;
  bool operator==(const RotaryScaling&) const = default;
};

/// How a layer rotates its queries and keys.
enum class RopeUse {
  kModel,  ///< by the model's frequencies
  kLocal,  ///< by those of layers with a window (Gemma 3)
  kNone,   ///< not at all: every angle is 0
};
inline std::vector<std::pair<std::string, RopeUse>> enum_names(RopeUse) {
  return {{"model", RopeUse::kModel}, {"local", RopeUse::kLocal}, {"none", RopeUse::kNone}};
}

/// Cosines and sines for a run of positions, [length, head_dim / 2]; pair k is dims k and k + head_dim / 2.
struct RotaryTable {
  at::Tensor cosine, sine;
};

/// Position embedding of one model. Angles are computed in float64, whatever the dtype of the table.
class Rotary {
 public:
  Rotary() = default;
  /// `max_positions` is the model's context length (dynamic scaling starts beyond it).
  Rotary(double theta, std::int64_t head_dim, std::int64_t max_positions, RotaryScaling scaling);
  /// All frequencies are 0: rotation changes nothing.
  static Rotary still(std::int64_t head_dim);

  /// Frequency of each pair for a sequence of `length` tokens, float64 [head_dim / 2], fastest first.
  at::Tensor frequencies(std::int64_t length) const;

  /// Cosines and sines of positions first … first + count - 1 of a sequence that is `length` tokens long.
  RotaryTable table(std::int64_t first, std::int64_t count, std::int64_t length, const at::TensorOptions& like) const;

  /// yarn and longrope multiply cosines and sines by a constant; since that scales every logit by its square, attention
  /// applies the square to the softmax scale instead, which also serves dims that are not rotated. 1 for other types.
  double logit_scale() const { return logit_scale_; }

  /// True for dynamic and longrope scaling, whose frequencies change once a sequence outgrows steady_length(): keys
  /// cached before were rotated with other frequencies than a full recomputation would use.
  bool depends_on_length() const { return scaling_.type == "dynamic" || scaling_.type == "longrope"; }
  /// The longest sequence with the frequencies of every shorter one.
  std::int64_t steady_length() const {
    return scaling_.type == "longrope" ? scaling_.original_positions : max_positions_;
  }

 private:
  double theta_ = 10000;
  std::int64_t head_dim_ = 0;
  std::int64_t max_positions_ = 0;
  RotaryScaling scaling_;
  double logit_scale_ = 1;
  bool still_ = false;
};

}  // namespace mla
