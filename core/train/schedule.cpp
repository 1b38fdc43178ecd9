#include "core/train/schedule.h"

#include <cmath>
#include <numbers>

#include "core/base/error.h"

namespace mla {
namespace {

/// The steps at which the phases meet: warm-up [0, warmup), decay [decay_start, total).
struct Phases {
  std::int64_t warmup = 0, decay_start = 0;
};

std::int64_t phase_steps(const std::optional<std::int64_t>& steps, double fraction, std::int64_t total) {
  return steps.value_or(std::llround(fraction * static_cast<double>(total)));
}

Phases phases_of(const ScheduleOptions& options, std::int64_t total) {
  const std::int64_t warmup = phase_steps(options.warmup_steps, options.warmup_fraction, total);
  if (options.shape != ScheduleShape::kWsd) return {warmup, warmup};
  return {warmup, total - phase_steps(options.decay_steps, options.decay_fraction, total)};
}

double curve(ScheduleShape shape, double progress) {
  switch (shape) {
    case ScheduleShape::kWsd:
      return 1 - std::sqrt(progress);
    case ScheduleShape::kCosine:
      return (1 + std::cos(std::numbers::pi * progress)) / 2;
    case ScheduleShape::kLinear:
      return 1 - progress;
    case ScheduleShape::kConstant:
      return 1;
  }
  throw std::logic_error("a schedule shape without a curve");
}

void check_fraction(const std::string& path, double value) {
  if (!(value >= 0 && value <= 1)) throw ConfigError(cat(path, ": ", value, " is outside 0..1"));
}

void check_steps(const std::string& path, const std::optional<std::int64_t>& steps) {
  if (steps && *steps < 0) throw ConfigError(cat(path, ": ", *steps, " is negative"));
}

}  // namespace

std::vector<std::pair<std::string, ScheduleShape>> enum_names(ScheduleShape) {
  return {{"wsd", ScheduleShape::kWsd},
          {"cosine", ScheduleShape::kCosine},
          {"linear", ScheduleShape::kLinear},
          {"constant", ScheduleShape::kConstant}};
}

void ScheduleOptions::validate(const std::string& path, std::int64_t total_steps) const {
  check_fraction(path + ".warmup_fraction", warmup_fraction);
  check_fraction(path + ".decay_fraction", decay_fraction);
  check_fraction(path + ".final_fraction", final_fraction);
  check_steps(path + ".warmup_steps", warmup_steps);
  check_steps(path + ".decay_steps", decay_steps);
  const Phases phases = phases_of(*this, total_steps);
  if (phases.warmup > phases.decay_start || phases.warmup > total_steps) {
    const std::string rest = shape == ScheduleShape::kWsd
                                 ? cat(" and decay (", total_steps - phases.decay_start, " steps) do not")
                                 : std::string(" does not");
    throw ConfigError(cat(path, ": warm-up (", phases.warmup, " steps)", rest, " fit into ", total_steps, " steps"));
  }
}

double learning_rate_factor(const ScheduleOptions& options, std::int64_t step, std::int64_t total_steps) {
  const Phases phases = phases_of(options, total_steps);
  if (step < phases.warmup) return static_cast<double>(step + 1) / static_cast<double>(phases.warmup);
  if (step < phases.decay_start) return 1;
  const double length = static_cast<double>(total_steps - phases.decay_start);
  const double progress = static_cast<double>(step - phases.decay_start) / length;
  return options.final_fraction + (1 - options.final_fraction) * curve(options.shape, progress);
}

}  // namespace mla
