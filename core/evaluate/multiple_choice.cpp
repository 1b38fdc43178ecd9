#include "core/evaluate/multiple_choice.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/base/error.h"

namespace mla {
namespace {

bool is_right(const MultipleChoiceItem& item, const std::vector<double>& sums, double (*length)(const std::string&)) {
  std::vector<double> scores;
  for (std::size_t i = 0; i < sums.size(); ++i) scores.push_back(sums[i] / length(item.choices[i]));
  if (!std::all_of(scores.begin(), scores.end(), [](double score) { return !std::isnan(score); })) return false;
  return std::max_element(scores.begin(), scores.end()) - scores.begin() == item.answer;
}

Accuracy share_of(std::vector<double> right) {
  Accuracy accuracy;
  const double count = static_cast<double>(right.size());
  accuracy.value = std::accumulate(right.begin(), right.end(), 0.0) / count;
  if (right.size() > 1) accuracy.standard_error = std::sqrt(accuracy.value * (1 - accuracy.value) / (count - 1));
  accuracy.per_item = std::move(right);
  return accuracy;
}

Accuracy accuracy_by(const std::vector<MultipleChoiceItem>& items, const std::vector<std::vector<double>>& sums,
                     double (*length)(const std::string&)) {
  std::vector<double> right;
  for (std::size_t i = 0; i < items.size(); ++i) right.push_back(is_right(items[i], sums[i], length) ? 1 : 0);
  return share_of(std::move(right));
}

/// The items' groups of tokens. An item whose choices have contexts of their own is encoded as several of one choice.
std::vector<ContinuationGroup> encode_items(const std::vector<MultipleChoiceItem>& items, const Tokenizer& tokenizer,
                                            int threads, const Chat* chat) {
  std::vector<std::string> contexts;
  std::vector<std::vector<std::string>> choices;
  for (const MultipleChoiceItem& item : items) {
    expects(item.contexts.empty() || item.contexts.size() == item.choices.size(), "one context per choice");
    if (item.contexts.empty()) {
      contexts.push_back(item.context);
      choices.push_back(item.choices);
    }
    for (std::size_t i = 0; i < item.contexts.size(); ++i) {
      contexts.push_back(item.contexts[i]);
      choices.push_back({item.choices[i]});
    }
  }
  std::vector<ContinuationGroup> encoded = encode_continuations(tokenizer, contexts, choices, threads, chat), groups;
  auto next = encoded.begin();
  for (const MultipleChoiceItem& item : items) {
    groups.push_back(std::move(*next++));
    for (std::size_t i = 1; i < item.contexts.size(); ++i) groups.back().push_back(std::move(next++->front()));
  }
  return groups;
}

}  // namespace

double bytes_of(const std::string& choice) {
  return static_cast<double>(choice.size() - (choice.starts_with(' ') ? 1 : 0));
}

double characters_of(const std::string& choice) {
  const auto continues = [](char byte) { return (static_cast<unsigned char>(byte) & 0xC0) == 0x80; };
  return bytes_of(choice) - static_cast<double>(std::count_if(choice.begin(), choice.end(), continues));
}

MultipleChoiceTask make_multiple_choice(std::vector<MultipleChoiceItem> items, const Tokenizer& tokenizer, int threads,
                                        const Chat* chat) {
  for (MultipleChoiceItem& item : items) {
    for (std::string& choice : item.choices) {
      if (chat && choice.starts_with(' ')) choice.erase(0, 1);
    }
  }
  std::vector<ContinuationGroup> tokens = encode_items(items, tokenizer, threads, chat);
  return {std::move(items), std::move(tokens)};
}

MultipleChoiceResult score_choices(const std::vector<MultipleChoiceItem>& items,
                                   std::vector<std::vector<double>> log_likelihoods) {
  MultipleChoiceResult result;
  result.log_likelihood = std::move(log_likelihoods);
  result.accuracy = accuracy_by(items, result.log_likelihood, [](const std::string&) { return 1.0; });
  result.accuracy_normalized = accuracy_by(items, result.log_likelihood, characters_of);
  result.accuracy_per_byte = accuracy_by(items, result.log_likelihood, bytes_of);
  return result;
}

MultipleChoiceResult multiple_choice(const Decoder& decoder, const MultipleChoiceTask& task,
                                     const LikelihoodOptions& options,
                                     const std::function<void(std::int64_t)>& progress) {
  expects(!task.items.empty() && task.items.size() == task.tokens.size(), "one group of tokens per item");
  LikelihoodResult likelihoods = log_likelihoods(decoder, task.tokens, options, progress);
  MultipleChoiceResult result = score_choices(task.items, std::move(likelihoods.sum));
  result.truncated = likelihoods.truncated;
  if (likelihoods.greedy.empty()) return result;
  std::vector<double> greedy;
  for (std::size_t i = 0; i < task.items.size(); ++i) {
    greedy.push_back(likelihoods.greedy[i][static_cast<std::size_t>(task.items[i].answer)]);
  }
  result.greedy = share_of(std::move(greedy));
  return result;
}

}  // namespace mla
