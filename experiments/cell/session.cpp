#include "experiments/cell/session.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <iterator>

#include "core/base/error.h"
#include "core/base/fields.h"
#include "core/base/hash.h"
#include "core/base/interrupt.h"
#include "core/base/numerics_version.h"
#include "core/base/progress.h"
#include "core/text/chat_template.h"
#include "experiments/cell/cell_folder.h"
#include "experiments/cell/input_files.h"
#include "experiments/cell/shared_stage.h"
#include "experiments/cell/statistics_file.h"
#include "experiments/model/model_files.h"

namespace mla {
namespace {

template <class Options>
std::string key_of(const ModelConfig& model, const Options& options) {
  return hash_json({write_fields(model), write_fields(options)});
}

/// What the evaluations of models from one source share.
class SessionSurroundings final : public TaskSurroundings {
 public:
  SessionSurroundings(Session& session, const ModelConfig& model,
                      std::map<std::string, std::shared_ptr<const void>>& prepared)
      : session_(session), model_(model), key_(hash_json(write_fields(model))), prepared_(prepared) {}

  const Decoder& source() override { return session_.source(model_).decoder; }
  const Tokenizer& tokenizer() override { return session_.tokenizer(model_); }
  std::filesystem::path place_of_tokenizer() override {
    return mla::place_of_tokenizer(model_.path, named_tokenizer(model_));
  }
  const TokenRows& rows(const DataOptions& data) override { return session_.rows(model_, data); }
  int threads() const override { return at::get_num_threads(); }

 protected:
  std::shared_ptr<const void>& kept(const std::string& key) override { return prepared_[key_ + key]; }

 private:
  Session& session_;
  ModelConfig model_;
  std::string key_;
  std::map<std::string, std::shared_ptr<const void>>& prepared_;
};

}  // namespace

Session::Session(const std::vector<CellPlan>& cells, std::filesystem::file_time_type not_before)
    : cells_(cells), not_before_(not_before) {}

std::filesystem::path Session::shared_file(const std::string& name, const std::string& key,
                                           const ExperimentConfig& inputs) {
  Json identity = {name, key, data_hashes(inputs), kNumericsVersion};
  // Left out where it is the usual one, as everywhere.
  const ExperimentConfig &cell = cells_.front().options, usual;
  if (cell.device != usual.device) identity.push_back(cell.device);
  if (cell.products != usual.products) identity.push_back({"products", cell.products});
  if (inputs.model.weights != usual.model.weights) identity.push_back(write_fields(inputs.model).at("weights"));
  const std::string hash = hash_json(identity);
  return CellFolder(cells_.front().options.results, hash).path() / name;
}

const Checkpoint& Session::source(const ModelConfig& model) {
  const std::pair<std::string, HeldWeights> key{model.path, model.weights};
  auto found = sources_.find(key);
  if (found == sources_.end()) {
    const Placement placement = cells_.empty() ? Placement{} : cells_.front().options.placement();
    found =
        sources_.emplace(key, load_checkpoint(model.path, {.placement = placement, .weights = model.weights})).first;
  }
  return found->second;
}

const Tokenizer& Session::tokenizer(const ModelConfig& model) {
  auto& tokenizer = tokenizers_[hash_json(write_fields(model))];
  if (!tokenizer) tokenizer = load_model_tokenizer(model.path, named_tokenizer(model), source(model).decoder.spec());
  return *tokenizer;
}

const TokenRows& Session::rows(const ModelConfig& model, const DataOptions& data) {
  const std::string key = key_of(model, data);
  auto found = rows_.find(key);
  if (found == rows_.end()) {
    found = rows_
                .emplace(key, load_rows(data, &tokenizer(model), source(model).decoder.spec().vocabulary,
                                        at::get_num_threads()))
                .first;
  }
  return found->second;
}

std::shared_ptr<const TokenStream> Session::tokens(const ModelConfig& model, const DataOptions& data, LossOn loss_on) {
  const bool completions = loss_on == LossOn::kCompletion;
  auto& tokens = tokens_[key_of(model, data) + (completions ? " completions" : "")];
  if (tokens) return tokens;
  const std::int64_t vocabulary = source(model).decoder.spec().vocabulary;
  tokens = completions ? open_completions(data, tokenizer(model), place_of_tokenizer(model.path, named_tokenizer(model)),
                                          vocabulary)
                       : open_tokens(data, tokenizer(model), vocabulary, at::get_num_threads());
  return tokens;
}

std::unique_ptr<TaskSurroundings> Session::surroundings(const ModelConfig& model) {
  return std::make_unique<SessionSurroundings>(*this, model, prepared_);
}

Statistics Session::statistics_of(const Decoder& decoder, const ModelConfig& model, const DataOptions& data,
                                  const Requirements& requirements) {
  const TokenRows& tokens = rows(model, data);
  Progress bar("calibrate", tokens.tokens(), "tokens");
  return calibrate(decoder, tokens.rows, requirements, {}, [&](std::int64_t count) {
    bar.advance(count);
    check_interrupt();
  });
}

const Statistics& Session::statistics(const ModelConfig& model, const DataOptions& data) {
  const std::string inputs_key = key_of(model, data);
  Requirements requirements;
  for (const CellPlan& cell : cells_) {
    const ExperimentConfig& options = cell.options;
    if (cell.passes.empty() || !options.calibration || key_of(options.model, *options.calibration) != inputs_key)
      continue;
    requirements.merge(cell.passes.front().pass->requirements());
  }
  Json names = Json::array();
  for (const Requirement& requirement : requirements) names.push_back(requirement.name());
  const std::string key = hash_json({inputs_key, names});
  auto found = statistics_.find(key);
  if (found == statistics_.end()) {
    ExperimentConfig inputs;
    inputs.model = model;
    inputs.calibration = data;
    const auto make = [&](const std::filesystem::path& file) {
      Statistics statistics = statistics_of(source(model).decoder, model, data, requirements);
      write_statistics(file, statistics);
      return statistics;
    };
    const auto file = shared_file("statistics.safetensors", key, inputs);
    found = statistics_.emplace(key, shared_stage(file, not_before_, read_statistics, make)).first;
  }
  return found->second;
}

DecompositionStore& Session::decompositions(const CellPlan& cell, std::size_t passes) {
  const auto key_of_passes = [](const CellPlan& one, std::size_t count) {
    Json key = {one.options.model.path};
    for (std::size_t i = 0; i < count; ++i) key.push_back(one.passes[i].config);
    if (count > 0 && one.options.calibration) key.push_back(write_fields(*one.options.calibration));
    return hash_json(key);
  };
  const std::string key = key_of_passes(cell, passes);
  const auto [found, is_new] = decompositions_.try_emplace(key);
  if (is_new) {
    for (const CellPlan& other : cells_) {
      if (other.passes.size() <= passes || key_of_passes(other, passes) != key) continue;
      const PlannedPass& next = other.passes[passes];
      next.pass->announce(next.before, found->second);
    }
  }
  return found->second;
}

const std::vector<ScoreRecord>& Session::source_scores(const ModelConfig& model,
                                                       const std::vector<EvaluationConfig>& tasks) {
  Json described = Json::array();
  for (const EvaluationConfig& task : tasks) described.push_back(write_fields(task));
  const std::string key = hash_json({write_fields(model), described});
  auto found = source_scores_.find(key);
  if (found == source_scores_.end()) {
    ExperimentConfig inputs;
    inputs.model = model;
    inputs.evaluate = tasks;
    const auto read = [](const std::filesystem::path& file) { return read_record(file).evaluation; };
    const auto make = [&](const std::filesystem::path& file) {
      RunRecord record;
      record.evaluation = evaluate(source(model).decoder, "source", model, tasks, file.parent_path());
      write_record(file, record);
      return record.evaluation;
    };
    const auto file = shared_file("source_scores.h5", key, inputs);
    found = source_scores_.emplace(key, shared_stage(file, not_before_, read, make)).first;
  }
  return found->second;
}

std::vector<ScoreRecord> Session::evaluate(const Decoder& decoder, const std::string& stage, const ModelConfig& model,
                                           const std::vector<EvaluationConfig>& tasks,
                                           const std::filesystem::path& keep_in) {
  std::vector<ScoreRecord> scores;
  const EvaluationKeeper keeper(keep_in, stage);
  const auto shared = surroundings(model);
  for (const EvaluationConfig& task : tasks) {
    if (!task.is_asked_at(stage)) continue;
    auto own = task.make_task()->scores({decoder, task, *shared, stage, keeper, scores});
    std::move(own.begin(), own.end(), std::back_inserter(scores));
  }
  keeper.remove();
  return scores;
}

const std::string& Session::file_hash(const std::filesystem::path& file) {
  auto& hash = file_hashes_[file.string()];
  if (hash.empty()) hash = hash_data_file(file);
  return hash;
}

Json Session::data_hashes(const ExperimentConfig& config) {
  Json hashes = Json::object();
  for (const auto& [role, path] : input_files(config)) hashes[role] = file_hash(path);
  // A template may lie in a file that counts for nothing else.
  const bool chats =
      std::any_of(config.evaluate.begin(), config.evaluate.end(), [](const auto& one) { return one.chat; });
  const auto trainings = config.trainings();
  const bool answers = std::any_of(trainings.begin(), trainings.end(),
                                   [](const auto& one) { return one.second->loss_on == LossOn::kCompletion; });
  const auto place = place_of_tokenizer(config.model.path, named_tokenizer(config.model));
  if (chats || (answers && has_chat_template(place))) hashes["chat_template"] = hash_bytes(read_chat_template(place));
  return hashes;
}

}  // namespace mla
