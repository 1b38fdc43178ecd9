// A training state as one safetensors file.
#pragma once

#include <filesystem>

#include "core/train/trainer.h"

namespace mla {

/// Writes all of `state`; a file of that name is whole. Throws DataError when it cannot be written.
void write_training_state(const std::filesystem::path& path, const TrainingState& state);

/// Throws DataError for a file that is missing, damaged, or no training state.
TrainingState read_training_state(const std::filesystem::path& path);

}  // namespace mla
