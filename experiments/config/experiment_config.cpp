#include "experiments/config/experiment_config.h"

#include <algorithm>
#include <charconv>

#include "core/base/checks.h"
#include "core/base/error.h"
#include "core/base/registry.h"
#include "core/base/suggest.h"
#include "core/compress/pass.h"
#include "experiments/config/config_choices.h"
#include "experiments/tasks/evaluation_task.h"

namespace mla {
namespace {

void check_choice(const std::string& path, const std::string& value, const std::vector<std::string>& known) {
  if (std::find(known.begin(), known.end(), value) == known.end()) {
    throw ConfigError(cat(path, ": ", unknown_name(value, known)));
  }
}

void check_weights(const std::vector<MixtureSource>& mixture, const std::string& path) {
  std::vector<double> weights;
  for (const MixtureSource& source : mixture) weights.push_back(source.weight);
  MixtureSchedule::check_weights(weights, path);
}

/// Throws ConfigError for models that are to be measured on the way where nothing says how.
void check_measured(const ExperimentConfig& config) {
  for (const auto& [path, train] : config.trainings()) {
    if (train->evaluate_every == 0 || !config.perplexities().empty()) continue;
    throw ConfigError(cat(path, ".evaluate_every = ", train->evaluate_every,
                          ": `evaluate` has no task perplexity that could be measured during training"));
  }
}

void check_stages(const ExperimentConfig& config) {
  if (config.stages.empty()) return;
  if (!config.compress.empty() || config.train)
    throw ConfigError("stages: give either these, or `compress` and `train`, which are short for two of them");
  for (std::size_t i = 0; i < config.stages.size(); ++i) {
    const StageConfig& stage = config.stages[i];
    const std::string path = cat("stages[", i, "]");
    if (!stage.compress.is_array())
      throw ConfigError(cat(path, ".compress: expected a list of passes, found ", kind_of(stage.compress)));
    if (stage.compress.empty() != stage.train.has_value())
      throw ConfigError(cat(path, ": a stage has either `compress` or `train`"));
    if (stage.train && stage.train->partial_rope_steps > 0) {
      throw ConfigError(cat(path, ".train.partial_rope_steps: stages say this as {\"compress\": [partial_rope]}, ",
                            "{\"train\": …}, {\"compress\": [low_rank]}, {\"train\": …}"));
    }
  }
}

}  // namespace

const std::vector<std::string>& packing_names() {
  static const std::vector<std::string> names = {"packed", "rows", "shuffled_rows"};
  return names;
}

const std::vector<std::string>& arithmetic_names() {
  static const std::vector<std::string> names = {"float32", "float64"};
  return names;
}

KeepCheckpoints KeepCheckpoints::read(const Json& json, const std::string& path) {
  const auto refuse = [&] {
    throw ConfigError(cat(path, " = ", brief(json), ": expected last, best, or every N (steps), N at least 1"));
  };
  KeepCheckpoints keep;
  std::string text = json.is_string() ? json.get<std::string>() : json.dump();
  if (text == "last") return keep;
  keep.best = text == "best";
  if (keep.best) return keep;
  for (const char* word : {"every ", "every_", "every="}) {
    if (text.starts_with(word)) text.erase(0, std::string(word).size());
  }
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), keep.every);
  if (error != std::errc() || end != text.data() + text.size() || keep.every < 1) refuse();
  return keep;
}

Json KeepCheckpoints::write() const { return best ? "best" : every > 0 ? cat("every ", every) : "last"; }

std::vector<std::pair<std::string, const DataOptions*>> TrainConfig::sources(const std::string& path) const {
  if (mixture.empty()) return {{path + ".data", &data}};
  std::vector<std::pair<std::string, const DataOptions*>> all;
  for (std::size_t i = 0; i < mixture.size(); ++i)
    all.emplace_back(cat(path, ".mixture[", i, "].data"), &mixture[i].data);
  return all;
}

TrainConfig TrainConfig::first_stage() const {
  TrainConfig stage = *this;
  stage.options.steps = partial_rope_steps;
  if (stage.options.lora) stage.options.lora->save = LoraSave::kMerged;  // the low-rank step needs matrices
  return stage;
}

TrainConfig TrainConfig::last_stage() const {
  TrainConfig stage = *this;
  stage.options.steps -= partial_rope_steps;
  return stage;
}

void TrainConfig::validate(const std::string& path) const {
  options.validate(path);
  if (partial_rope_steps < 0 || partial_rope_steps >= options.steps) {
    throw ConfigError(cat(path, ".partial_rope_steps = ", partial_rope_steps, ": expected 0, or fewer than steps (",
                          options.steps, ")"));
  }
  if (partial_rope_steps > 0) {
    for (const TrainConfig& stage : {first_stage(), last_stage()})
      stage.options.schedule.validate(path + ".schedule", stage.options.steps);
  }
  check_not_negative(path + ".evaluate_every", static_cast<double>(evaluate_every));
  if (keep_checkpoints.best && evaluate_every == 0)
    throw ConfigError(cat(path, ".keep_checkpoints = best: needs ", path, ".evaluate_every, the steps between scores"));
  check_choice(path + ".packing", packing, packing_names());
  if (!mixture.empty() && !data.files.empty()) {
    throw ConfigError(
        cat(path, ".mixture: give either this or ", path, ".data.files, which names ", data.files.front()));
  }
  for (const auto& [where, source] : sources(path)) {
    source->validate(where);
    if (loss_on == LossOn::kCompletion) check_completions(*source, where);
  }
  if (!mixture.empty()) check_weights(mixture, path + ".mixture");
  if (!in_rows()) return;
  if (!mixture.empty()) throw ConfigError(cat(path, ".mixture: rows are those of one source; use packing = packed"));
  if (document_boundaries == DocumentBoundaries::kMasked) {
    throw ConfigError(cat(path, ".document_boundaries = masked: rows hold one document each; use packing = packed"));
  }
}

std::vector<std::pair<std::string, const TrainConfig*>> ExperimentConfig::trainings() const {
  std::vector<std::pair<std::string, const TrainConfig*>> all;
  if (train) all.emplace_back("train", &*train);
  for (std::size_t i = 0; i < stages.size(); ++i) {
    if (stages[i].train) all.emplace_back(cat("stages[", i, "].train"), &*stages[i].train);
  }
  return all;
}

std::vector<const EvaluationConfig*> ExperimentConfig::perplexities() const {
  std::vector<const EvaluationConfig*> all;
  for (const EvaluationConfig& one : evaluate) {
    if (one.make_task()->scored_text(one) != nullptr) all.push_back(&one);
  }
  return all;
}

void ExperimentConfig::validate() const {
  if (model.path.empty()) throw ConfigError("model.path: name a model folder, a GGUF or a llama2.c .bin file");
  placement();  // refuses what is none
  check_choice("arithmetic", arithmetic, arithmetic_names());
  if (!compress.is_array()) throw ConfigError(cat("compress: expected a list of passes, found ", kind_of(compress)));
  if (calibration) calibration->validate("calibration");
  for (const auto& [path, one] : trainings()) one->validate(path);
  check_stages(*this);
  if (!(checkpoint_seconds >= 0)) {
    throw ConfigError(cat("checkpoint_seconds = ", checkpoint_seconds, ": must not be negative"));
  }
  if (cache) {
    cache->validate("cache");
    if (needs_calibration(cache->storage) && !calibration) {
      throw ConfigError(cat("calibration: cache.codec = ", cache->storage.label(), " needs data; name its files"));
    }
  }
  std::vector<std::string> names;
  for (std::size_t i = 0; i < evaluate.size(); ++i) {
    const std::string path = cat("evaluate[", i, "]");
    evaluate[i].validate(path);
    const std::string& label = evaluate[i].label();
    if (label.find('/') != std::string::npos) throw ConfigError(cat(path, ".name = ", label, ": may not hold '/'"));
    if (std::find(names.begin(), names.end(), label) != names.end()) {
      throw ConfigError(cat(path, ".name = ", label, ": two evaluations have this name"));
    }
    for (std::size_t k = 0; k < evaluate[i].of.size(); ++k) {
      check_choice(cat(path, ".of[", k, "]"), evaluate[i].of[k], names);
    }
    names.push_back(label);
  }
  check_measured(*this);
}

StrategyFields StageConfig::strategies() { return {{"compress", strategy_identity<Pass>}}; }

StrategyFields ExperimentConfig::strategies() { return {{"compress", strategy_identity<Pass>}}; }

}  // namespace mla
