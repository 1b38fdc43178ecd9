// The files that a cell reads.
#pragma once

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "experiments/config/experiment_config.h"

namespace mla {

/// Every file by the role under which its hash is recorded: "model/config.json", "calibration[0]", … Throws DataError
/// for a folder that is missing.
std::vector<std::pair<std::string, std::filesystem::path>> input_files(const ExperimentConfig& config);

/// The tokenizer that a config names; nothing: the one beside the model.
std::optional<std::filesystem::path> named_tokenizer(const ModelConfig& model);

/// What was looked at, and what is wrong with it.
struct InputCheck {
  std::size_t files = 0;
  std::uintmax_t bytes = 0;
  std::vector<std::string> faults;  ///< "FILE: why it cannot be read", each once
};

/// Opens every file of these configs and reads its first byte; of models, the weights that an index names, too.
InputCheck check_input_files(const std::vector<const ExperimentConfig*>& configs);

}  // namespace mla
