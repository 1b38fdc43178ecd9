#include "experiments/commands/evaluate_tasks.h"

#include <algorithm>
#include <chrono>
#include <map>

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
#include "experiments/model/dtype.h"
#include "experiments/model/model_files.h"
#include "experiments/sweep/estimate.h"
#include "experiments/tasks/benchmark_items.h"
#include "experiments/tasks/task_scores.h"

namespace mla {
namespace {

constexpr const char* kTaskStage = "source";
/// Of each task, to estimate the time from, and how long that should take.
constexpr std::size_t kProbedQuestions = 2;
constexpr double kTaskProbeSeconds = 0.5;

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
    if (task.task == "multiple_choice" || task.task == "longbench" || task.task == "mean") continue;
    throw ConfigError(
        cat("evaluate.", task.label(), ": --tasks takes multiple_choice, longbench and mean, not ", task.task));
  }
  return experiment.evaluate;
}

/// What the numbers of a model depend on besides the requests.
std::string model_key(const TasksRequest& request) {
  Json key = Json::array({request.dtype, kNumericsVersion});
  auto files = files_of_model(request.model, "model");
  files.merge(files_of_tokenizer(place_of_tokenizer(request.model, request.tokenizer), "tokenizer"));
  for (const auto& [role, file] : files) key.push_back({role, hash_file(file)});
  return hash_json(key);
}

/// Everything that is to be done, read and tokenized before the first request is computed: a mistake in the last task
/// ends the run at once.
class Tasks {
 public:
  Tasks(const TasksRequest& request, Console& console)
      : request_(request),
        configs_(read_tasks(request)),
        tokenizer_(load_model_tokenizer(request.model, request.tokenizer, load_spec(request.model))) {
    for (const EvaluationConfig& task : configs_) {
      if (task.task != "multiple_choice") continue;
      items_.emplace(task.label(), make_multiple_choice(load_items(task, "evaluate." + task.label()), *tokenizer_,
                                                        console.workers()));
    }
  }

  /// Tells how long it will take, from the speed at which a few questions of each task are scored.
  void estimate(const Decoder& decoder) const {
    const EvaluationKeeper keeper = kept();
    double tokens = 0;
    std::int64_t requests = 0, batches = 0;
    for (const EvaluationConfig& task : configs_) {
      if (task.task == "longbench") tokens += longbench_tokens(task, *tokenizer_);
      if (task.task != "multiple_choice") continue;
      const MultipleChoiceTask& items = items_.at(task.label());
      const LikelihoodOptions options = likelihood_options(task, items);
      const std::unique_ptr<LikelihoodJournal> journal = open_journal(keeper, task, items, options);
      const std::int64_t done = journal ? journal->kept() : 0;
      batches += done;
      try {
        tokens += static_cast<double>(tokens_to_compute(decoder, items.tokens, options, done));
      } catch (const DataError& error) {
        throw DataError(cat(task.items, ": ", error.what()));
      }
      for (const ContinuationGroup& group : items.tokens) requests += std::ssize(group);
    }
    const double rate = items_.empty() ? forward_rate(decoder) : scoring_rate(decoder);
    log_info(cat(grouped(requests), " requests, ", grouped(static_cast<std::int64_t>(tokens)),
                 " tokens to compute: about ", describe_seconds(tokens / rate), " at ", rounded(rate, 3),
                 " tokens/s (probe)", batches > 0 ? cat("; ", batches, " batches were done before") : ""));
  }

  std::vector<ScoreRecord> run(const Decoder& decoder) const {
    const EvaluationKeeper keeper = kept();
    std::vector<ScoreRecord> scores;
    for (const EvaluationConfig& task : configs_) {
      std::vector<ScoreRecord> own;
      if (task.task == "multiple_choice")
        own = choice_task_scores(decoder, kTaskStage, task, items_.at(task.label()), keeper);
      if (task.task == "longbench")
        own = longbench_task_scores(decoder, *tokenizer_, kTaskStage, task, keeper, request_.predictions.value_or(""));
      if (task.task == "mean") own = mean_scores(kTaskStage, task.label(), task.of, scores);
      scores.insert(scores.end(), own.begin(), own.end());
    }
    keeper.remove();
    std::error_code not_empty;
    std::filesystem::remove(request_.keep / key_, not_empty);
    return scores;
  }

 private:
  /// Tokens per second of scoring questions from all over the tasks: more and more of them until it takes long enough.
  double scoring_rate(const Decoder& decoder) const {
    // The first pass reads the weights from the disk.
    log_likelihoods(decoder, {items_.begin()->second.tokens.front()}, {});
    for (std::size_t count = kProbedQuestions;; count *= 4) {
      std::vector<ContinuationGroup> sample;
      bool all = true;
      for (const auto& [name, items] : items_) {
        const std::size_t step = std::max<std::size_t>(1, items.tokens.size() / count);
        for (std::size_t i = step / 2; i < items.tokens.size(); i += step) sample.push_back(items.tokens[i]);
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
  std::unique_ptr<Tokenizer> tokenizer_;
  std::map<std::string, MultipleChoiceTask> items_;
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
  const at::ScalarType dtype = parse_dtype(request.dtype, "--dtype");
  install_interrupt_handler();
  const Tasks tasks(request, console);
  const Checkpoint checkpoint = load_checkpoint(request.model, {.dtype = dtype});
  tasks.estimate(checkpoint.decoder);
  const auto start = std::chrono::steady_clock::now();
  const std::vector<ScoreRecord> scores = tasks.run(checkpoint.decoder);
  const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - start;
  if (request.output)
    write_json(
        *request.output,
        {{"model", request.model.string()}, {"config", request.config.string()}, {"tasks", to_json(scores, true)}}, -1);
  print(scores, console.text());
  console.report({{"model", request.model.string()},
                  {"config", request.config.string()},
                  {"dtype", request.dtype},
                  {"seconds", passed.count()},
                  {"tasks", to_json(scores, false)}});
  return ExitCode::kDone;
}

}  // namespace mla
