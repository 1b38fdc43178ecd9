#include "experiments/commands/bench_models.h"

#include <algorithm>
#include <memory>
#include <optional>

#include "core/base/error.h"
#include "core/base/interrupt.h"
#include "core/model/checkpoint.h"
#include "core/model/family.h"
#include "core/model/initialize.h"
#include "experiments/data/token_data.h"
#include "experiments/model/model_files.h"

namespace mla {
namespace {

ModelSpec spec_of(const BenchConfig& config) {
  if (!config.model.empty()) return load_spec(config.model, config.weights);
  try {
    return read_published_config(config.geometry, "geometry");
  } catch (const DataError& error) {  // here it is the user's own config, not a file of a model
    throw ConfigError(error.what());
  }
}

}  // namespace

BenchModels::BenchModels(const BenchConfig& config) : config_(config), source_(spec_of(config)) {
  for (std::size_t i = 0; i < config.models.size(); ++i) {
    const std::string path = cat("models[", i, "].compress");
    passes_.push_back(plan_passes(config.models[i].compress, path, source_));
    for (const PlannedPass& planned : passes_.back()) {
      if (!planned.pass->needs_calibration()) continue;
      measures_ = true;
      if (config.calibration.empty()) {
        throw ConfigError(cat(planned.path, ": ", planned.name,
                              " measures the model on data; name a text file or JSON {\"ids\": [[…]]} with "
                              "--calibration FILE, or as \"calibration\" of the config"));
      }
    }
  }
}

std::vector<ModelSpec> BenchModels::specs() const {
  std::vector<ModelSpec> all;
  for (const std::vector<PlannedPass>& passes : passes_) all.push_back(planned_spec(passes, source_));
  return all;
}

void BenchModels::read_calibration(int threads) {
  if (!measures_) return;
  DataOptions data;
  data.files = {config_.calibration};
  data.length = std::min(config_.calibration_length, source_.max_positions);
  data.long_documents = "split";
  data.max_rows = config_.calibration_rows;
  std::unique_ptr<Tokenizer> tokenizer;
  if (!holds_token_ids(config_.calibration)) {
    if (config_.model.empty())
      throw ConfigError(
          "calibration: a model of random weights has no tokenizer; give {\"ids\": [[…]]} in a .json file");
    tokenizer = load_model_tokenizer(config_.model, std::nullopt, source_);
  }
  rows_ = load_rows(data, tokenizer.get(), source_.vocabulary, threads).rows;
}

Decoder BenchModels::load() const {
  if (!config_.model.empty())
    return load_checkpoint(config_.model, {.placement = config_.placement(), .weights = config_.weights}).decoder;
  Decoder decoder = initialize_decoder(source_, config_.seed);
  decoder.move_to(config_.placement());
  return decoder;
}

Decoder BenchModels::make(std::size_t index) const {
  Decoder decoder = load();
  const auto stop = [](std::int64_t) { check_interrupt(); };
  std::optional<Decoder> source;
  for (const PlannedPass& planned : passes_[index]) {
    const Requirements requirements = planned.pass->requirements();
    Statistics statistics;
    if (!requirements.empty()) statistics = calibrate(decoder, rows_, requirements, {}, stop);
    if (planned.pass->reads_source() && !source) source = load();
    PassInputs inputs;
    inputs.statistics = &statistics;
    inputs.rows = &rows_;
    inputs.source = source ? &*source : nullptr;
    inputs.progress = stop;
    run_pass(planned.name, *planned.pass, decoder, inputs);
  }
  return decoder;
}

}  // namespace mla
