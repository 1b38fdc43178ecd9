// From a config file to the cells that will run: resolved, constructed and cross-checked before any weight is read.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/base/json.h"
#include "core/compress/pass.h"
#include "experiments/config/experiment_config.h"
#include "experiments/plan/pass_list.h"

namespace mla {

/// One stage of a cell: some of its passes, or training.
struct StagePlan {
  /// Under which the model after it is measured, the last compression as "converted", the last training as
  /// "fine_tuned"; empty: it is not.
  std::string label;
  std::size_t first_pass = 0, passes = 0;  ///< of CellPlan::passes
  std::optional<TrainConfig> train;
  std::string title;               ///< of training, for people
  std::string state;               ///< name under which its training state is kept
  bool continues_batches = false;  ///< training goes on in the text where the training before stopped
};

/// One cell of an experiment, ready to run.
struct CellPlan {
  std::string name;
  Json config;     ///< resolved, environment variables not yet expanded
  Json expanded;   ///< the same as it runs, which is what the record tells
  Json overrides;  ///< its place in the grid
  ExperimentConfig options;
  ModelSpec spec;                   ///< of the source model
  std::vector<PlannedPass> passes;  ///< of all stages
  std::vector<StagePlan> stages;    ///< in order
  std::filesystem::path record;     ///< where its record goes

  /// The model after all passes; that of the source where there are none.
  const ModelSpec& planned() const { return planned_spec(passes, spec); }
  /// The steps of a single pass that has some, planned; else none.
  std::vector<PlannedPass> steps() const;
  bool trains() const;
  /// At most: rows may be shorter than the sequence length.
  std::int64_t training_tokens() const;
  double cache_ratio() const { return mla::cache_ratio(spec, planned()); }
};

/// A cell that makes no sense and is left out, since the config says "skip_invalid".
struct InvalidCell {
  std::string name, reason;
};

struct ExperimentPlan {
  std::string name;
  std::vector<CellPlan> cells;
  std::vector<InvalidCell> invalid;
};

/// Overrides from the command line.
struct ConfigOverrides {
  std::vector<std::string> set;   ///< "a.b=value"
  std::vector<std::string> grid;  ///< "a.b=1,2,3"
  std::optional<std::string> device, products;
};

/// The config file with its bases and overrides applied.
Json resolve_experiment(const std::filesystem::path& file, const ConfigOverrides& overrides);

/// Expands the grid and constructs every cell. `"baseline": true` adds a cell without compression, otherwise the same,
/// for each setting of the grid that is not about compression. A cell that cannot run (a rank above the width, more
/// pairs than a head has) is refused, or with `"skip_invalid": true` left out and listed. Throws ConfigError for
/// anything that could not run, naming the config path; DataError for an unreadable model config.
ExperimentPlan plan_experiment(const std::filesystem::path& file, const ConfigOverrides& overrides);

}  // namespace mla
