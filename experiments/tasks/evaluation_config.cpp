#include "experiments/tasks/evaluation_config.h"

#include <algorithm>

#include "core/base/error.h"
#include "core/base/registry.h"
#include "core/base/suggest.h"
#include "core/evaluate/position_buckets.h"
#include "core/text/benchmark_question.h"
#include "experiments/tasks/evaluation_task.h"

namespace mla {

namespace {

const Registry<EvaluationTask>& known_tasks() { return Registry<EvaluationTask>::instance(); }

void check_form(const std::string& form, const std::string& path) {
  std::vector<std::string> forms = {"auto"};
  for (const BenchmarkForm& known : benchmark_forms()) forms.push_back(known.name);
  if (std::find(forms.begin(), forms.end(), form) == forms.end())
    throw ConfigError(cat(path, ": ", unknown_name(form, forms)));
}

void check_chat(const EvaluationTask& task, const std::string& name, const std::string& path) {
  const std::vector<std::string> reads = task.reads();
  if (std::find(reads.begin(), reads.end(), "chat") != reads.end()) return;
  std::string known;
  for (const std::string& other : known_tasks().names()) {
    const auto theirs = known_tasks().find(other, path).make(Json::object(), path)->reads();
    if (std::find(theirs.begin(), theirs.end(), "chat") != theirs.end()) known += (known.empty() ? "" : ", ") + other;
  }
  throw ConfigError(cat(path, ".chat: ", name, " asks no question; tasks that can be asked as a chat: ", known));
}

/// "converted_2" is a stage of its kind.
void check_stage(const std::string& stage, const std::string& path) {
  const std::size_t end = stage.find_last_not_of("0123456789");
  const bool numbered = end != std::string::npos && end + 1 < stage.size() && stage[end] == '_';
  const std::string kind = numbered ? stage.substr(0, end) : stage;
  std::vector<std::string> known = {"converted", "fine_tuned"};
  if (!numbered) known.insert(known.end(), {"source", "partial_rope"});
  if (std::find(known.begin(), known.end(), kind) == known.end())
    throw ConfigError(cat(path, ": ", unknown_name(stage, known)));
}

}  // namespace

std::map<std::string, OwnTaskOptions::Reader>& OwnTaskOptions::readers() {
  static std::map<std::string, Reader> readers;  // Made on first use: registrations run before main in no known order.
  return readers;
}

std::vector<OwnTaskOptions> OwnTaskOptions::of_all_tasks() {
  std::vector<OwnTaskOptions> all;
  for (const std::string& task : known_tasks().names()) {
    const Json& defaults = known_tasks().find(task, "task").defaults;
    if (!defaults.empty()) all.push_back(OwnTaskOptions(task, defaults));
  }
  return all;
}

Json OwnTaskOptions::schema() const { return known_tasks().find(task_, "task").schema(); }

Json OwnTaskOptions::identity() const { return known_tasks().find(task_, "task").identity(values_); }

bool EvaluationConfig::is_asked_at(const std::string& stage) const {
  return stages.empty() || std::find(stages.begin(), stages.end(), stage) != stages.end();
}

std::unique_ptr<EvaluationTask> EvaluationConfig::make_task(const std::string& path) const {
  const auto& entry = known_tasks().find(task, path + ".task");
  const auto found = std::find_if(own.begin(), own.end(), [&](const auto& one) { return one.task() == task; });
  return entry.make(found == own.end() ? Json::object() : found->write(), path + "." + task);
}

std::unique_ptr<EvaluationTask> EvaluationConfig::make_task() const { return make_task("evaluate." + label()); }

std::vector<std::string> EvaluationConfig::files() const { return make_task()->files(*this); }

void EvaluationConfig::validate(const std::string& path) const {
  known_tasks().find(task, path + ".task");
  options.validate(path);
  if (max_items < 0) throw ConfigError(cat(path, ".max_items = ", max_items, ": must not be negative"));
  for (std::size_t i = 0; i < stages.size(); ++i) check_stage(stages[i], cat(path, ".stages[", i, "]"));
  if (buckets) check_buckets(path + ".buckets", *buckets, options.context);
  const auto own_task = make_task(path);
  if (chat) check_chat(*own_task, task, path);
  if (!chat && !system.empty()) throw ConfigError(cat(path, ".system: a message of a chat; say \"chat\": true, too"));
  own_task->validate(*this, path);
  // What other tasks would read has to make sense all the same.
  prompt.validate(path + ".prompt");
  check_form(form, path + ".form");
  for (const OwnTaskOptions& one : own) known_tasks().find(one.task(), path).make(one.write(), path + "." + one.task());
}

}  // namespace mla
