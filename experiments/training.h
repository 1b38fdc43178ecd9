// Training as a config states it, with progress, for whatever model.
#pragma once

#include <string>

#include "core/model/decoder.h"
#include "core/text/corpus.h"
#include "core/train/trainer.h"
#include "experiments/experiment_config.h"

namespace mla {

/// Throws ConfigError naming `path` for training options, data or a packing that make no sense whatever the model.
void validate_training(const TrainConfig& config, const std::string& path);

/// Trains `decoder` in place on `tokens`, packed or row by row as `config` says, and shows progress under `label`.
/// A signal ends the run after its step, with status kInterrupted.
TrainingReport train_on(const TokenRows& tokens, const TrainConfig& config, Decoder& decoder, const std::string& label);

}  // namespace mla
