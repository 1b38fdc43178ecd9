// Error attribution: what each step from the source model to the served one costs.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/base/bootstrap.h"
#include "core/store/record.h"
#include "experiments/attribution/step.h"

namespace mla {

/// How a score differs from that of the step before, on the same samples.
struct ScoreChange {
  std::string task, metric;
  BootstrapInterval difference;  ///< this step's minus the one's before
};

/// The model after one step.
struct StepReport {
  std::string name;  ///< "source" for the first
  std::vector<ScoreRecord> scores;
  std::vector<ScoreChange>
      changes;  ///< of the scores with samples of their own; KL and flips count from 0 at the source
};

/// The source model with one layer changed by a step.
struct LayerAttribution {
  std::string step;
  std::int64_t layer = 0;
  std::vector<ScoreRecord> scores;  ///< those of distance_scores()
};

struct AttributionReport {
  std::vector<StepReport> steps;
  std::vector<LayerAttribution> layers;  ///< by step, then layer
};

/// Takes the cell's steps one after the other and evaluates the model after each, with the config's evaluations and,
/// where none is of that kind, the distance from the source on its first text. With `by_layer`, layers are exchanged
/// one at a time, too, for steps that allow it, and compared on the text of the first distance. A config with a `cache`
/// has its texts decoded through it after each step, as task "<name>, cached". Throws ConfigError for a config without
/// steps, or without a text.
AttributionReport attribute(const CellPlan& cell, Session& session, bool by_layer);

}  // namespace mla
