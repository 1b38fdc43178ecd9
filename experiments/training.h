// Training as a config states it, with progress, for whatever model.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "core/model/decoder.h"
#include "core/text/token_stream.h"
#include "core/train/trainer.h"
#include "experiments/experiment_config.h"

namespace mla {

/// Opens the tokens of one of the config's data options.
using TokenOpener = std::function<std::shared_ptr<const TokenStream>(const DataOptions&)>;

/// What `config` trains on: packed, mixed or row by row. Throws DataError for data that cannot be used.
std::unique_ptr<BatchSource> make_batches(const TrainConfig& config, const TokenOpener& open);

/// Trains `decoder` in place on `batches`, together with the processes that mpirun started, and shows progress under
/// `label`. A signal to any of them ends the run after its step, with status kInterrupted.
TrainingReport train_on(BatchSource& batches, const TrainConfig& config, Decoder& decoder, const std::string& label);

}  // namespace mla
