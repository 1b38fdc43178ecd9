// Training as a config states it, with progress, for whatever model.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "core/model/decoder.h"
#include "core/store/record.h"
#include "core/text/token_stream.h"
#include "core/train/trainer.h"
#include "experiments/config/experiment_config.h"

namespace mla {

/// Opens the tokens of one of the config's data options, of which training predicts so much.
using TokenOpener = std::function<std::shared_ptr<const TokenStream>(const DataOptions&, LossOn)>;

/// Where the state of a run is kept, so that it can be continued.
class TrainingKeeper {
 public:
  virtual ~TrainingKeeper() = default;
  /// The state to go on from, if there is one.
  virtual std::optional<TrainingState> load() = 0;
  virtual void save(const TrainingState& state) = 0;
  /// Seconds between two saves, the first counted from the start.
  virtual double interval() const = 0;
  /// Whether the state after the last step is to be saved too: what follows may take long, or fail.
  virtual bool keeps_last() const { return false; }
};

/// What `config` trains on: packed, mixed or row by row. Throws DataError for data that cannot be used.
std::unique_ptr<BatchSource> make_batches(const TrainConfig& config, const TokenOpener& open);

class TrainingJournal;

/// Trains `decoder` in place on `batches`, together with the processes that mpirun started, and shows progress under
/// `label`. With a `keeper` (may be null) the run goes on from the state it loads, and is saved at every interval and
/// at a signal. A signal to any of the processes ends the run after its step, with status kInterrupted. `teacher` is
/// the model that distillation compares with; `journal` writes its course down, in the first process.
TrainingReport train_on(BatchSource& batches, const TrainConfig& config, Decoder& decoder, const std::string& label,
                        TrainingKeeper* keeper = nullptr, const Decoder* teacher = nullptr,
                        TrainingJournal* journal = nullptr);

/// Appends the series of a run to those of the stage before it, as if both were one run.
void append_series(const TrainingReport& report, TrainingSeries& series);

}  // namespace mla
