// The learning rate over the steps of a run.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace mla {

/// What follows the linear warm-up.
enum class ScheduleShape {
  kWsd,       ///< constant, then 1 - sqrt(progress) over the last decay steps (warm-up, stable, decay)
  kCosine,    ///< half a cosine over all remaining steps
  kLinear,    ///< a straight line over all remaining steps
  kConstant,  ///< constant
};
std::vector<std::pair<std::string, ScheduleShape>> enum_names(ScheduleShape);

/// Lengths are given in steps, or, where those are null, as fractions of the run (rounded to whole steps).
struct ScheduleOptions {
  ScheduleShape shape = ScheduleShape::kWsd;
  std::optional<std::int64_t> warmup_steps;
  double warmup_fraction = 0.05;
  std::optional<std::int64_t> decay_steps;
  double decay_fraction = 0.1;
  double final_fraction = 0;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("shape", self.shape, "wsd, cosine, linear or constant: the curve after the warm-up");
    visit("warmup_steps", self.warmup_steps, "steps of linear warm-up; null: warmup_fraction of the run");
    visit("warmup_fraction", self.warmup_fraction, "used where warmup_steps is null");
    visit("decay_steps", self.decay_steps, "wsd: steps of the final decay; null: decay_fraction of the run");
    visit("decay_fraction", self.decay_fraction, "used where decay_steps is null");
    visit("final_fraction", self.final_fraction, "factor that the decay tends to");
  }

  /// Throws ConfigError for fractions outside 0..1, negative steps, or phases longer than the run.
  void validate(const std::string& path, std::int64_t total_steps) const;
};

/// What the peak learning rate is multiplied by in step s = 0 … total_steps - 1: (s + 1) / warmup for s < warmup, then
/// 1 until the decay starts, then final + (1 - final) * curve((s - start) / length), with curve(0) = 1 and curve(1) =
/// 0. wsd is the schedule of MHA2MLA (arXiv 2502.14837, Table 4).
double learning_rate_factor(const ScheduleOptions& options, std::int64_t step, std::int64_t total_steps);

}  // namespace mla
