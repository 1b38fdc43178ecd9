#include "experiments/cell/session.h"

#include <ATen/Parallel.h>

#include "core/base/error.h"
#include "core/base/fields.h"
#include "core/base/hash.h"
#include "core/base/interrupt.h"
#include "core/base/numerics_version.h"
#include "core/base/progress.h"
#include "experiments/cell/cell_folder.h"
#include "experiments/cell/shared_stage.h"
#include "experiments/cell/statistics_file.h"
#include "experiments/data/score_record.h"
#include "experiments/model/model_files.h"
#include "experiments/tasks/benchmark_items.h"
#include "experiments/tasks/distance_scores.h"
#include "experiments/tasks/recall_scores.h"
#include "experiments/tasks/task_scores.h"

namespace mla {
namespace {

template <class Options>
std::string key_of(const ModelConfig& model, const Options& options) {
  return hash_json({write_fields(model), write_fields(options)});
}

/// Perplexity's three faces; the per-token values stand under the first. The others' errors follow from its by the
/// delta method.
std::vector<ScoreRecord> to_scores(const std::string& stage, const std::string& task, const PerplexityResult& result) {
  std::vector<ScoreRecord> scores;
  scores.push_back(
      new_score(stage, task, "nll", result.mean_nll, result.scored_tokens, "nats per token", Better::kLower));
  scores.back().standard_error = result.standard_error;
  scores.back().per_sample = result.nll;
  scores.back().group_sizes = result.groups.sizes;
  scores.push_back(new_score(stage, task, "perplexity", result.perplexity, result.scored_tokens, "", Better::kLower));
  scores.back().standard_error = result.perplexity * result.standard_error;
  if (result.bits_per_byte) {
    scores.push_back(new_score(stage, task, "bits_per_byte", *result.bits_per_byte, result.scored_tokens,
                               "bits per byte", Better::kLower));
    scores.back().standard_error = *result.bits_per_byte * result.standard_error / result.mean_nll;
  }
  for (ScoreRecord& record : scores) record.group_unit = result.groups.unit;
  return scores;
}

}  // namespace

Session::Session(const std::vector<CellPlan>& cells, std::filesystem::file_time_type not_before)
    : cells_(cells), not_before_(not_before) {}

std::filesystem::path Session::shared_file(const std::string& name, const std::string& key,
                                           const ExperimentConfig& inputs) {
  const std::string hash = hash_json({name, key, data_hashes(inputs), kNumericsVersion});
  return CellFolder(cells_.front().options.results, hash).path() / name;
}

const Checkpoint& Session::source(const ModelConfig& model) {
  auto found = sources_.find(model.path);
  if (found == sources_.end()) found = sources_.emplace(model.path, load_checkpoint(model.path)).first;
  return found->second;
}

const Tokenizer& Session::tokenizer(const ModelConfig& model) {
  auto& tokenizer = tokenizers_[hash_json(write_fields(model))];
  if (!tokenizer) {
    std::optional<std::filesystem::path> given;
    if (!model.tokenizer.empty()) given = model.tokenizer;
    tokenizer = load_model_tokenizer(model.path, given, source(model).decoder.spec());
  }
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

std::shared_ptr<const TokenStream> Session::tokens(const ModelConfig& model, const DataOptions& data) {
  auto& tokens = tokens_[key_of(model, data)];
  if (!tokens)
    tokens = open_tokens(data, tokenizer(model), source(model).decoder.spec().vocabulary, at::get_num_threads());
  return tokens;
}

const MultipleChoiceTask& Session::items(const ModelConfig& model, const EvaluationConfig& task) {
  const std::string key = key_of(model, task);
  auto found = items_.find(key);
  if (found == items_.end()) {
    found = items_
                .emplace(key, make_multiple_choice(load_items(task, "evaluate." + task.label()), tokenizer(model),
                                                   at::get_num_threads()))
                .first;
  }
  return found->second;
}

const RecallTask& Session::recall_items(const ModelConfig& model, const EvaluationConfig& task) {
  const std::string key = key_of(model, task);
  auto found = recall_.find(key);
  if (found == recall_.end()) {
    found = recall_.emplace(key, make_recall_task(task.recall, tokenizer(model), at::get_num_threads())).first;
  }
  return found->second;
}

CalibrationStatistics Session::statistics_of(const Decoder& decoder, const ModelConfig& model,
                                             const DataOptions& data) {
  const TokenRows& tokens = rows(model, data);
  Progress bar("calibrate", tokens.tokens(), "tokens");
  return calibrate(decoder, tokens.rows, {}, [&](std::int64_t count) {
    bar.advance(count);
    check_interrupt();
  });
}

const CalibrationStatistics& Session::statistics(const ModelConfig& model, const DataOptions& data) {
  const std::string key = key_of(model, data);
  auto found = statistics_.find(key);
  if (found == statistics_.end()) {
    ExperimentConfig inputs;
    inputs.model = model;
    inputs.calibration = data;
    const auto make = [&](const std::filesystem::path& file) {
      CalibrationStatistics statistics = statistics_of(source(model).decoder, model, data);
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

std::vector<ScoreRecord> Session::evaluate_text(const Decoder& decoder, const std::string& stage,
                                                const ModelConfig& model, const EvaluationConfig& task) {
  const TokenRows& tokens = rows(model, task.data);
  Progress bar(cat("evaluate ", stage), tokens.tokens() - std::ssize(tokens.rows), "tokens");
  std::optional<std::int64_t> bytes;
  if (tokens.bytes > 0) bytes = tokens.bytes;
  const PerplexityResult result = perplexity(decoder, tokens.rows, task.options, bytes, [&](std::int64_t count) {
    bar.advance(count);
    check_interrupt();
  });
  std::vector<ScoreRecord> scores = to_scores(stage, task.label(), result);
  if (tokens.skipped > 0) {
    scores.push_back(new_score(stage, task.label(), "skipped_lines", static_cast<double>(tokens.skipped), 1,
                               "lines of the text left out as bad", Better::kLower));
  }
  const auto parts = position_scores(stage, task.label(), "nll", result.nll, result.positions, result.groups,
                                     task.buckets, task.options.context, decoder.spec().max_positions);
  scores.insert(scores.end(), parts.begin(), parts.end());
  return scores;
}

std::vector<ScoreRecord> Session::evaluate_distance(const Decoder& decoder, const std::string& stage,
                                                    const ModelConfig& model, const EvaluationConfig& task) {
  const TokenRows& tokens = rows(model, task.data);
  Progress bar(cat("distance ", stage), tokens.tokens() - std::ssize(tokens.rows), "tokens");
  const TokenDivergence result =
      divergence(source(model).decoder, decoder, tokens.rows, task.options, [&](std::int64_t count) {
        bar.advance(count);
        check_interrupt();
      });
  std::vector<ScoreRecord> scores = distance_scores(stage, task.label(), result);
  const auto parts = position_scores(stage, task.label(), "kl", result.kl, result.positions, result.groups,
                                     task.buckets, task.options.context, decoder.spec().max_positions);
  scores.insert(scores.end(), parts.begin(), parts.end());
  return scores;
}

std::vector<ScoreRecord> Session::evaluate_recall(const Decoder& decoder, const std::string& stage,
                                                  const ModelConfig& model, const EvaluationConfig& task) {
  const RecallTask& asked = recall_items(model, task);
  Progress bar(cat("evaluate ", stage, " ", task.label()), std::ssize(asked.items) * task.recall.choices, "choices");
  return recall_scores(stage, task.label(), asked,
                       recall(decoder, asked, task.options.batch_tokens, [&](std::int64_t count) {
                         bar.advance(count);
                         check_interrupt();
                       }));
}

std::vector<ScoreRecord> Session::evaluate(const Decoder& decoder, const std::string& stage, const ModelConfig& model,
                                           const std::vector<EvaluationConfig>& tasks,
                                           const std::filesystem::path& keep_in) {
  std::vector<ScoreRecord> scores;
  const EvaluationKeeper keeper(keep_in, stage);
  for (const EvaluationConfig& task : tasks) {
    std::vector<ScoreRecord> own;
    if (task.task == "multiple_choice") {
      own = choice_task_scores(decoder, stage, task, items(model, task), keeper);
    } else if (task.task == "longbench") {
      own = longbench_task_scores(decoder, tokenizer(model), stage, task, keeper);
    } else if (task.task == "mean") {
      own = mean_scores(stage, task.label(), task.of, scores);
    } else if (task.task == "recall") {
      own = evaluate_recall(decoder, stage, model, task);
    } else if (task.task == "perplexity") {
      own = evaluate_text(decoder, stage, model, task);
    } else if (stage != "source") {
      own = evaluate_distance(decoder, stage, model, task);
    }
    for (ScoreRecord& record : own) scores.push_back(std::move(record));
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
  for (const auto& [role, path] : files_of_model(config.model.path, "model")) hashes[role] = file_hash(path);
  std::optional<std::filesystem::path> tokenizer;
  if (!config.model.tokenizer.empty()) tokenizer = config.model.tokenizer;
  for (const auto& [role, path] : files_of_tokenizer(place_of_tokenizer(config.model.path, tokenizer), "tokenizer")) {
    // Most of those in the model's folder are counted as its files.
    if (tokenizer || !hashes.contains("model/" + path.filename().string())) hashes[role] = file_hash(path);
  }
  const auto add = [&](const std::string& role, const std::vector<std::string>& files) {
    for (std::size_t i = 0; i < files.size(); ++i) hashes[cat(role, "[", i, "]")] = file_hash(files[i]);
  };
  if (config.calibration) add("calibration", config.calibration->files);
  for (const auto& [path, train] : config.trainings()) {
    for (const auto& [role, data] : train->sources(path)) add(role == "train.data" ? "train" : role, data->files);
  }
  for (std::size_t i = 0; i < config.evaluate.size(); ++i) add(cat("evaluate[", i, "]"), config.evaluate[i].files());
  return hashes;
}

}  // namespace mla
