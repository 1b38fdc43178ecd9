// Training as a config states it, with progress, for whatever model.
#pragma once

#include <optional>
#include <string>

#include "core/model/decoder.h"
#include "core/text/corpus.h"
#include "core/train/trainer.h"
#include "experiments/experiment_config.h"

namespace mla {

/// Throws ConfigError naming `path` for training options, data or a packing that make no sense whatever the model.
void validate_training(const TrainConfig& config, const std::string& path);

/// Where the state of a run is kept, so that it can be continued.
class TrainingKeeper {
 public:
  virtual ~TrainingKeeper() = default;
  /// The state to go on from, if there is one.
  virtual std::optional<TrainingState> load() = 0;
  virtual void save(const TrainingState& state) = 0;
  /// Seconds between two saves, the first counted from the start.
  virtual double interval() const = 0;
};

/// Trains `decoder` in place on `tokens`, packed or row by row as `config` says, and shows progress under `label`.
/// With a `keeper` (may be null) the run goes on from the state it loads, and is saved at every interval and at a
/// signal. A signal ends the run after its step, with status kInterrupted.
TrainingReport train_on(const TokenRows& tokens, const TrainConfig& config, Decoder& decoder, const std::string& label,
                        TrainingKeeper* keeper = nullptr);

}  // namespace mla
