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

Json OwnTaskOptions::identity() const { return known_tasks().find(task_, "task").identity(values_); }

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
  if (buckets) check_buckets(path + ".buckets", *buckets, options.context);
  make_task(path)->validate(*this, path);
  // What other tasks would read has to make sense all the same.
  prompt.validate(path + ".prompt");
  check_form(form, path + ".form");
  for (const OwnTaskOptions& one : own) known_tasks().find(one.task(), path).make(one.write(), path + "." + one.task());
}

}  // namespace mla
