#include "experiments/tasks/task_scores.h"

#include <algorithm>

#include "core/base/error.h"
#include "core/base/hash.h"
#include "core/base/interrupt.h"
#include "core/base/log.h"
#include "core/base/progress.h"

namespace mla {
namespace {

constexpr const char* kExtension = ".journal";

}  // namespace

EvaluationKeeper::EvaluationKeeper(std::filesystem::path folder, std::string stage, std::string key)
    : folder_(std::move(folder)), stage_(std::move(stage)), key_(std::move(key)) {}

std::filesystem::path EvaluationKeeper::file(const std::string& task) const {
  std::filesystem::create_directories(folder_);
  return folder_ / (stage_ + "-" + task + kExtension);
}

void EvaluationKeeper::remove() const {
  std::error_code missing;
  if (!keeps()) return;
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(folder_, missing)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with(stage_ + "-") && name.ends_with(kExtension)) files.push_back(entry.path());
  }
  for (const auto& file : files) std::filesystem::remove(file, missing);
}

LikelihoodOptions likelihood_options(const EvaluationConfig& task, const MultipleChoiceTask& items) {
  LikelihoodOptions options;
  options.batch_tokens = task.options.batch_tokens;
  options.greedy = task.greedy || std::all_of(items.items.begin(), items.items.end(),
                                              [](const auto& item) { return item.choices.size() == 1; });
  return options;
}

std::unique_ptr<LikelihoodJournal> open_journal(const EvaluationKeeper& keeper, const EvaluationConfig& task,
                                                const MultipleChoiceTask& items, const LikelihoodOptions& options) {
  if (!keeper.keeps()) return {};
  return std::make_unique<LikelihoodJournal>(keeper.file(task.label()),
                                             keeper.key() + requests_key(items.tokens, options));
}

std::vector<ScoreRecord> choice_task_scores(const Decoder& decoder, const std::string& stage,
                                            const EvaluationConfig& task, const MultipleChoiceTask& items,
                                            const EvaluationKeeper& keeper) {
  LikelihoodOptions options = likelihood_options(task, items);
  const std::unique_ptr<LikelihoodJournal> journal = open_journal(keeper, task, items, options);
  options.journal = journal.get();
  Progress bar(cat("evaluate ", stage, " ", task.label()), tokens_to_compute(decoder, items.tokens, options), "tokens");
  options.computed = [&](std::int64_t tokens) {
    bar.advance(tokens);
    check_interrupt();
  };
  options.taken_over = [&](std::int64_t tokens) { bar.take_over(tokens); };
  const MultipleChoiceResult result = multiple_choice(decoder, items, options);
  if (journal && journal->restored() > 0)
    log_info(cat(task.label(), ": took over ", journal->restored(), " batches that an earlier run had done"));
  return multiple_choice_scores(stage, task.label(), items, result);
}

}  // namespace mla
