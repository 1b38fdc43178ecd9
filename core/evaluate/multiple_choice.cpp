#include "core/evaluate/multiple_choice.h"

#include <algorithm>
#include <cmath>

#include "core/base/error.h"

namespace mla {
namespace {

double bytes_of(const std::string& choice) {
  return static_cast<double>(choice.size() - (choice.starts_with(' ') ? 1 : 0));
}

double characters_of(const std::string& choice) {
  const auto continues = [](char byte) { return (static_cast<unsigned char>(byte) & 0xC0) == 0x80; };
  return bytes_of(choice) - static_cast<double>(std::count_if(choice.begin(), choice.end(), continues));
}

bool is_right(const MultipleChoiceItem& item, const std::vector<double>& sums, double (*length)(const std::string&)) {
  std::vector<double> scores;
  for (std::size_t i = 0; i < sums.size(); ++i) scores.push_back(sums[i] / length(item.choices[i]));
  if (!std::all_of(scores.begin(), scores.end(), [](double score) { return !std::isnan(score); })) return false;
  return std::max_element(scores.begin(), scores.end()) - scores.begin() == item.answer;
}

Accuracy accuracy_by(const std::vector<MultipleChoiceItem>& items, const std::vector<std::vector<double>>& sums,
                     double (*length)(const std::string&)) {
  Accuracy accuracy;
  double right = 0;
  for (std::size_t i = 0; i < items.size(); ++i) {
    accuracy.per_item.push_back(is_right(items[i], sums[i], length) ? 1 : 0);
    right += accuracy.per_item.back();
  }
  const double count = static_cast<double>(items.size());
  accuracy.value = right / count;
  if (items.size() > 1) accuracy.standard_error = std::sqrt(accuracy.value * (1 - accuracy.value) / (count - 1));
  return accuracy;
}

}  // namespace

MultipleChoiceTask make_multiple_choice(std::vector<MultipleChoiceItem> items, const Tokenizer& tokenizer, int threads) {
  std::vector<std::string> contexts;
  std::vector<std::vector<std::string>> choices;
  for (const MultipleChoiceItem& item : items) {
    contexts.push_back(item.context);
    choices.push_back(item.choices);
  }
  return {std::move(items), encode_continuations(tokenizer, contexts, choices, threads)};
}

MultipleChoiceResult multiple_choice(const Decoder& decoder, const MultipleChoiceTask& task,
                                     const LikelihoodOptions& options,
                                     const std::function<void(std::int64_t)>& progress) {
  expects(!task.items.empty() && task.items.size() == task.tokens.size(), "one group of tokens per item");
  LikelihoodResult likelihoods = log_likelihoods(decoder, task.tokens, options, progress);
  MultipleChoiceResult result;
  result.log_likelihood = std::move(likelihoods.sum);
  result.truncated = likelihoods.truncated;
  result.accuracy = accuracy_by(task.items, result.log_likelihood, [](const std::string&) { return 1.0; });
  result.accuracy_normalized = accuracy_by(task.items, result.log_likelihood, characters_of);
  result.accuracy_per_byte = accuracy_by(task.items, result.log_likelihood, bytes_of);
  return result;
}

}  // namespace mla
