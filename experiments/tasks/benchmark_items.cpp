#include "experiments/tasks/benchmark_items.h"

#include <algorithm>

#include "core/base/error.h"
#include "core/text/benchmark_question.h"

namespace mla {
namespace {

/// Whoever writes items of one's own is told of slips that published benchmarks are full of.
void check_own_items(const std::vector<BenchmarkQuestion>& questions, const std::string& file) {
  for (std::size_t i = 0; i < questions.size(); ++i) {
    const auto& choices = questions[i].continuations;
    if (choices.size() < 2)
      throw DataError(cat(file, ": item ", i + 1, ": choices: expected at least 2, found ", choices.size()));
    for (std::size_t k = 1; k < choices.size(); ++k) {
      const auto here = choices.begin() + static_cast<std::ptrdiff_t>(k),
                 same = std::find(choices.begin(), here, choices[k]);
      if (same != here)
        throw DataError(
            cat(file, ": item ", i + 1, ": choices[", same - choices.begin(), "] and choices[", k, "] are the same"));
    }
  }
}

/// `count` of the questions at even steps.
void keep_spread(std::vector<BenchmarkQuestion>& questions, std::int64_t count) {
  const auto all = std::ssize(questions);
  if (count <= 0 || count >= all) return;
  std::vector<BenchmarkQuestion> kept;
  for (std::int64_t i = 0; i < count; ++i)
    kept.push_back(std::move(questions[static_cast<std::size_t>(i * all / count)]));
  questions = std::move(kept);
}

}  // namespace

std::vector<MultipleChoiceItem> load_items(const EvaluationConfig& task, const std::string& path) {
  BenchmarkFile file = read_benchmark(task.items, task.form, task.spread ? 0 : task.max_items);
  if (task.spread) keep_spread(file.questions, task.max_items);
  if (file.form == "plain") check_own_items(file.questions, task.items);
  std::vector<BenchmarkQuestion> examples;
  if (task.prompt.few_shot > 0 && !task.prompt.few_shot_items.empty()) {
    examples = read_benchmark(task.prompt.few_shot_items, task.form).questions;
  } else if (task.prompt.few_shot > 0 && task.max_items > 0) {
    examples = read_benchmark(task.items, task.form).questions;
  }
  return make_items(file.questions, examples, task.prompt, path + ".prompt");
}

void expect_items(const EvaluationConfig& task, const std::string& path) {
  if (task.items.empty()) throw ConfigError(cat(path, ".items: name a file or a folder of ", task.task, " items"));
}

std::vector<std::string> files_of_items(const EvaluationConfig& task) {
  std::vector<std::string> all;
  const auto add = [&](const std::string& path) {
    for (const auto& file : benchmark_files(path)) all.push_back(file.string());
  };
  add(task.items);
  if (task.prompt.few_shot > 0 && !task.prompt.few_shot_items.empty()) add(task.prompt.few_shot_items);
  return all;
}

}  // namespace mla
