#include "experiments/commands/evaluate_tasks.h"

#include <algorithm>
#include <chrono>
#include <map>
#include <utility>

#include "core/base/config.h"
#include "core/base/fields.h"
#include "core/base/hash.h"
#include "core/base/interrupt.h"
#include "core/base/log.h"
#include "core/base/numerics_version.h"
#include "core/base/progress.h"
#include "core/base/suggest.h"
#include "core/model/checkpoint.h"
#include "experiments/cli/table.h"
#include "experiments/data/token_data.h"
#include "experiments/model/model_files.h"
#include "experiments/sweep/estimate.h"
#include "experiments/tasks/evaluation_task.h"

namespace mla {
namespace {

constexpr const char* kTaskStage = kMeasuredStage;
/// Of each task, to estimate the time from, and how long that should take.
constexpr std::size_t kProbedQuestions = 2;
constexpr double kTaskProbeSeconds = 0.5;

/// Names of the tasks that `--tasks` takes, by what they ask for: "multiple_choice, longbench and mean".
std::string tasks_of_items() {
  const auto& registry = Registry<EvaluationTask>::instance();
  std::vector<std::pair<Asks, std::string>> found;
  for (const std::string& name : registry.names()) {
    const auto task = registry.find(name, "task").make(Json::object(), name);
    if (task->is_of_items()) found.emplace_back(task->asks(), name);
  }
  std::sort(found.begin(), found.end());
  std::string all;
  for (const auto& one : found) all += cat(all.empty() ? "" : &one == &found.back() ? " and " : ", ", one.second);
  return all;
}

std::vector<EvaluationConfig> read_tasks(const TasksRequest& request) {
  Json config = resolve_config(request.config);
  expand_environment(config);
  ExperimentConfig experiment;
  if (!config.contains("evaluate")) throw ConfigError(cat(request.config.string(), ": holds no list \"evaluate\""));
  read_fields(config["evaluate"], "evaluate", experiment.evaluate);
  experiment.model.path = request.model.string();
  for (EvaluationConfig& task : experiment.evaluate) {
    if (request.limit) task.max_items = *request.limit;
  }
  experiment.validate();
  std::vector<std::string> names;
  for (const EvaluationConfig& task : experiment.evaluate) names.push_back(task.label());
  for (const std::string& name : request.only) {
    if (std::find(names.begin(), names.end(), name) == names.end())
      throw ConfigError(cat("--only ", name, ": ", unknown_name(name, names)));
  }
  std::erase_if(experiment.evaluate, [&](const EvaluationConfig& task) {
    return !request.only.empty() &&
           std::find(request.only.begin(), request.only.end(), task.label()) == request.only.end();
  });
  for (const EvaluationConfig& task : experiment.evaluate) {
    if (task.make_task()->is_of_items()) continue;
    throw ConfigError(cat("evaluate.", task.label(), ": --tasks takes ", tasks_of_items(), ", not ", task.task));
  }
  return experiment.evaluate;
}

/// What the numbers of a model depend on besides the requests.
std::string model_key(const TasksRequest& request) {
  Json key = Json::array({request.placement.dtype, kNumericsVersion});
  if (request.placement.device != PlacementOptions{}.device) key.push_back(request.placement.device);
  if (request.placement.weights != PlacementOptions{}.weights) key.push_back({"weights", request.placement.weights});
  const std::string products = request.placement.used_products();
  if (products != PlacementOptions{}.products) key.push_back({"products", products});
  auto files = files_of_model(request.model, "model");
  files.merge(files_of_tokenizer(place_of_tokenizer(request.model, request.tokenizer), "tokenizer"));
  for (const auto& [role, file] : files) key.push_back({role, hash_file(file)});
  return hash_json(key);
}

/// What the tasks share, around a model that nothing was done to.
class ModelSurroundings final : public TaskSurroundings {
 public:
  ModelSurroundings(const TasksRequest& request, int threads)
      : spec_(load_spec(request.model)),
        tokenizer_(load_model_tokenizer(request.model, request.tokenizer, spec_)),
        place_(mla::place_of_tokenizer(request.model, request.tokenizer)),
        threads_(threads) {}

  void set_source(const Decoder& decoder) { source_ = &decoder; }

  const Decoder& source() override {
    expects(source_ != nullptr, "items are read before the weights, and ask for none");
    return *source_;
  }
  const Tokenizer& tokenizer() override { return *tokenizer_; }
  std::filesystem::path place_of_tokenizer() override { return place_; }
  const TokenRows& rows(const DataOptions& data) override {
    auto& rows = rows_[hash_json(write_fields(data))];
    if (!rows) rows = load_rows(data, tokenizer_.get(), spec_.vocabulary, threads_);
    return *rows;
  }
  int threads() const override { return threads_; }

 protected:
  std::shared_ptr<const void>& kept(const std::string& key) override { return kept_[key]; }

 private:
  ModelSpec spec_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::filesystem::path place_;
  int threads_;
  const Decoder* source_ = nullptr;
  std::map<std::string, std::optional<TokenRows>> rows_;
  std::map<std::string, std::shared_ptr<const void>> kept_;
};

/// Everything that is to be done, read and tokenized before the first request is computed: a mistake in the last task
/// ends the run at once.
class Tasks {
 public:
  Tasks(const TasksRequest& request, Console& console)
      : request_(request), configs_(read_tasks(request)), shared_(request, console.workers()) {
    for (const EvaluationConfig& config : configs_) {
      tasks_.push_back(config.make_task());
      if (const auto* asked = tasks_.back()->continuations(config, shared_)) asked_.push_back(asked);
    }
  }

  /// Tells how long it will take, from the speed at which a few questions of each task are scored.
  void estimate(const Decoder& decoder) {
    TaskCost whole;
    for (std::size_t i = 0; i < tasks_.size(); ++i) {
      const TaskCost cost = tasks_[i]->cost(call(decoder, i, {}));
      whole.tokens += cost.tokens;
      whole.batches_done += cost.batches_done;
    }
    std::int64_t requests = 0;
    for (const auto* groups : asked_) {
      for (const ContinuationGroup& group : *groups) requests += std::ssize(group);
    }
    const double rate = asked_.empty() ? forward_rate(decoder) : scoring_rate(decoder);
    log_info(cat(grouped(requests), " requests, ", grouped(static_cast<std::int64_t>(whole.tokens)),
                 " tokens to compute: about ", describe_seconds(whole.tokens / rate), " at ", rounded(rate, 3),
                 " tokens/s (probe)",
                 whole.batches_done > 0 ? cat("; ", whole.batches_done, " batches were done before") : ""));
  }

  std::vector<ScoreRecord> run(const Decoder& decoder) {
    std::vector<ScoreRecord> scores;
    for (std::size_t i = 0; i < tasks_.size(); ++i) {
      const std::vector<ScoreRecord> own = tasks_[i]->scores(call(decoder, i, scores));
      scores.insert(scores.end(), own.begin(), own.end());
    }
    kept().remove();
    std::error_code not_empty;
    std::filesystem::remove(request_.keep / key_, not_empty);
    return scores;
  }

  /// Without scores.
  RunRecord new_record(const Decoder& decoder, const Console& console) const {
    Measurement measurement{"evaluate", request_.model, request_.placement,
                            cat("on ", request_.config.stem().string())};
    Json& tasks = measurement.config["evaluate"] = Json::array();
    for (std::size_t i = 0; i < configs_.size(); ++i) {
      tasks.push_back(write_fields(configs_[i]));
      const std::vector<std::string> files = tasks_[i]->files(configs_[i]);
      for (std::size_t k = 0; k < files.size(); ++k)
        measurement.inputs.emplace(cat("evaluate[", i, "][", k, "]"), files[k]);
    }
    if (request_.tokenizer) measurement.inputs.merge(files_of_tokenizer(*request_.tokenizer, "tokenizer"));
    return record_of(measurement, &decoder, console);
  }

 private:
  TaskCall call(const Decoder& decoder, std::size_t index, const std::vector<ScoreRecord>& earlier) {
    shared_.set_source(decoder);
    return {decoder, configs_[index], shared_, kTaskStage, kept(), earlier, request_.predictions.value_or("")};
  }

  /// Tokens per second of scoring questions from all over the tasks: more and more of them until it takes long enough.
  double scoring_rate(const Decoder& decoder) const {
    // The first pass reads the weights from the disk.
    log_likelihoods(decoder, {asked_.front()->front()}, {});
    for (std::size_t count = kProbedQuestions;; count *= 4) {
      std::vector<ContinuationGroup> sample;
      bool all = true;
      for (const auto* groups : asked_) {
        const std::size_t step = std::max<std::size_t>(1, groups->size() / count);
        for (std::size_t i = step / 2; i < groups->size(); i += step) sample.push_back((*groups)[i]);
        all = all && step == 1;
      }
      const auto start = std::chrono::steady_clock::now();
      log_likelihoods(decoder, sample, {});
      const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - start;
      if (all || passed.count() > kTaskProbeSeconds)
        return static_cast<double>(tokens_to_compute(decoder, sample, {})) / passed.count();
    }
  }

  EvaluationKeeper kept() const { return EvaluationKeeper(request_.keep / key_, kTaskStage, key_); }

  TasksRequest request_;
  std::string key_ = model_key(request_);
  std::vector<EvaluationConfig> configs_;
  ModelSurroundings shared_;
  std::vector<std::unique_ptr<EvaluationTask>> tasks_;        ///< of `configs_`
  std::vector<const std::vector<ContinuationGroup>*> asked_;  ///< of those that ask for log-likelihoods of such
};

Json to_json(const std::vector<ScoreRecord>& scores, bool samples) {
  Json tasks = Json::object();
  for (const ScoreRecord& score : scores) {
    Json& own = tasks[score.task][score.metric];
    own = {{"value", score.value},
           {"standard_error", score.standard_error ? Json(*score.standard_error) : Json()},
           {"n", score.n}};
    if (samples) own["per_sample"] = score.per_sample;
    if (samples && !score.group_sizes.empty()) own["group_sizes"] = score.group_sizes;
  }
  return tasks;
}

void print(const std::vector<ScoreRecord>& scores, std::ostream& out) {
  Table table({"task", "metric", "value", "standard error", "n"});
  for (const ScoreRecord& score : scores) {
    if (score.metric.starts_with("choice_") || score.metric == "log_likelihood") continue;
    table.add({score.task, score.metric, rounded(score.value, 4),
               score.standard_error ? rounded(*score.standard_error, 2) : "", cat(score.n)});
  }
  table.print(out);
}

}  // namespace

ExitCode evaluate_tasks(const TasksRequest& request, Console& console) {
  const LoadOptions loading = request.placement.loading();
  install_interrupt_handler();
  Tasks tasks(request, console);
  const Checkpoint checkpoint = load_checkpoint(request.model, loading);
  tasks.estimate(checkpoint.decoder);
  const auto start = std::chrono::steady_clock::now();
  const std::vector<ScoreRecord> scores = tasks.run(checkpoint.decoder);
  const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - start;
  if (request.output.wants_report()) {
    request.output.write_report(
        {{"model", request.model.string()}, {"config", request.config.string()}, {"tasks", to_json(scores, true)}});
  }
  print(scores, console.text());
  if (request.output.wants_record()) {
    RunRecord record = tasks.new_record(checkpoint.decoder, console);
    record.evaluation = scores;
    record.seconds = {{cat("evaluate_", kTaskStage), passed.count()}};
    request.output.write_record(record, console);
  }
  console.report({{"model", request.model.string()},
                  {"config", request.config.string()},
                  {"dtype", request.placement.dtype},
                  {"products", request.placement.used_products()},
                  {"seconds", passed.count()},
                  {"tasks", to_json(scores, false)}});
  return ExitCode::kDone;
}

}  // namespace mla
