// The evaluations of a config on a model by itself, without an experiment around them.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "experiments/cli/command.h"
#include "experiments/commands/measurement_record.h"
#include "experiments/model/placement_options.h"

namespace mla {

/// What `mlaforge evaluate --tasks` is given.
struct TasksRequest {
  std::filesystem::path config;  ///< its list "evaluate" is what is done
  std::filesystem::path model;
  std::optional<std::filesystem::path> tokenizer;
  std::vector<std::string> only;      ///< names of evaluations; empty: all
  std::optional<std::int64_t> limit;  ///< the first items of each
  PlacementOptions placement;
  std::filesystem::path keep = "results/.evaluations";  ///< folder for what a killed run goes on from
  std::optional<std::filesystem::path> predictions;
  OutputFiles output;
};

/// Does them, with an estimate of the time before and progress during it; prints and reports the scores.
ExitCode evaluate_tasks(const TasksRequest& request, Console& console);

}  // namespace mla
