#include "experiments/tasks/evaluation_config.h"

#include <algorithm>

#include "core/base/error.h"
#include "core/base/registry.h"
#include "core/evaluate/position_buckets.h"
#include "experiments/tasks/evaluation_task.h"

namespace mla {

namespace {

const Registry<EvaluationTask>& known_tasks() { return Registry<EvaluationTask>::instance(); }

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
}

}  // namespace mla
