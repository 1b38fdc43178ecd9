#include "core/evaluate/multiple_choice.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/base/error.h"

namespace mla {
namespace {

bool is_right(const MultipleChoiceItem& item, const std::vector<double>& scores) {
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

/// `score(item, choice)` decides.
template <class Score>
Accuracy accuracy_of(const std::vector<MultipleChoiceItem>& items, const Score& score) {
  std::vector<double> right;
  for (std::size_t i = 0; i < items.size(); ++i) {
    std::vector<double> scores;
    for (std::size_t k = 0; k < items[i].choices.size(); ++k) scores.push_back(score(i, k));
    right.push_back(is_right(items[i], scores) ? 1 : 0);
  }
  return share_of(std::move(right));
}

Accuracy accuracy_by(const std::vector<MultipleChoiceItem>& items, const std::vector<std::vector<double>>& sums,
                     double (*length)(const std::string&)) {
  return accuracy_of(items, [&](std::size_t i, std::size_t k) { return sums[i][k] / length(items[i].choices[k]); });
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

void add_unconditional(MultipleChoiceTask& task, const std::string& context, const Tokenizer& tokenizer, int threads) {
  std::vector<std::vector<std::string>> choices;
  for (const MultipleChoiceItem& item : task.items) choices.push_back(item.choices);
  auto groups =
      encode_continuations(tokenizer, std::vector<std::string>(choices.size(), context), choices, threads, nullptr);
  for (ContinuationGroup& group : groups) task.tokens.push_back(std::move(group));
}

std::int64_t cut_contexts_right(std::vector<ContinuationGroup>& groups, std::int64_t most) {
  std::int64_t cut = 0;
  for (std::size_t i = 0; i < groups.size(); ++i) {
    for (Continuation& one : groups[i]) {
      const std::int64_t surplus = std::ssize(one.tokens) - most;
      if (surplus <= 0) continue;
      if (surplus >= one.context)
        throw DataError(cat("item ", i + 1, ": a continuation of ", std::ssize(one.tokens) - one.context,
                            " tokens leaves no room for its context: rows hold ", most, " tokens"));
      const auto end = one.tokens.begin() + one.context;
      one.tokens.erase(end - surplus, end);
      one.context -= surplus;
      ++cut;
    }
  }
  return cut;
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
  const std::size_t items = task.items.size();
  expects(items > 0 && (task.tokens.size() == items || task.tokens.size() == 2 * items),
          "one group of tokens per item, or two");
  LikelihoodResult likelihoods = log_likelihoods(decoder, task.tokens, options, progress);
  std::vector<std::vector<double>> unconditional;
  for (std::size_t i = items; i < likelihoods.sum.size(); ++i) unconditional.push_back(std::move(likelihoods.sum[i]));
  likelihoods.sum.resize(items);
  MultipleChoiceResult result = score_choices(task.items, std::move(likelihoods.sum));
  result.truncated = likelihoods.truncated;
  result.unconditional = std::move(unconditional);
  result.accuracy_per_token = accuracy_of(task.items, [&](std::size_t i, std::size_t k) {
    const Continuation& one = task.tokens[i][k];
    return result.log_likelihood[i][k] / static_cast<double>(std::ssize(one.tokens) - one.context);
  });
  if (!result.unconditional.empty()) {
    result.accuracy_pmi = accuracy_of(task.items, [&](std::size_t i, std::size_t k) {
      return result.log_likelihood[i][k] - result.unconditional[i][k];
    });
  }
  if (likelihoods.greedy.empty()) return result;
  std::vector<double> greedy;
  for (std::size_t i = 0; i < task.items.size(); ++i) {
    greedy.push_back(likelihoods.greedy[i][static_cast<std::size_t>(task.items[i].answer)]);
  }
  result.greedy = share_of(std::move(greedy));
  return result;
}

}  // namespace mla
