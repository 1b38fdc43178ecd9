#include "core/base/error.h"
#include "core/evaluate/continuation.h"

namespace mla {

Continuation join_continuation(std::vector<std::int32_t> context, const std::vector<std::int32_t>& whole) {
  std::size_t split = context.size();
  if (split >= whole.size()) {
    split = whole.empty() ? 0 : whole.size() - 1;
    context.assign(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(split));
  }
  if (split == 0) throw DataError("no token to condition on: the context is empty and the tokenizer puts none in front");
  context.insert(context.end(), whole.begin() + static_cast<std::ptrdiff_t>(split), whole.end());
  return {std::move(context), static_cast<std::int64_t>(split)};
}

std::vector<ContinuationGroup> encode_continuations(const Tokenizer& tokenizer, const std::vector<std::string>& contexts,
                                                    const std::vector<std::vector<std::string>>& choices, int threads) {
  expects(contexts.size() == choices.size(), "one list of choices per context");
  std::vector<std::string> texts;  // of each item its context, then context and choice together
  for (std::size_t i = 0; i < contexts.size(); ++i) {
    const std::size_t end = contexts[i].find_last_not_of(" \t\n\r");
    texts.push_back(contexts[i].substr(0, end == std::string::npos ? 0 : end + 1));
    for (const std::string& choice : choices[i]) texts.push_back(contexts[i] + choice);
  }
  const auto encoded = encode_batch(tokenizer, texts, {.add_bos = true}, threads);
  std::vector<ContinuationGroup> groups;
  auto at = encoded.begin();
  for (std::size_t i = 0; i < contexts.size(); ++i) {
    const auto& context = *at++;
    ContinuationGroup group;
    try {
      for (std::size_t choice = 0; choice < choices[i].size(); ++choice) group.push_back(join_continuation(context, *at++));
    } catch (const DataError& error) {
      throw DataError(cat("item ", i + 1, ": ", error.what()));
    }
    groups.push_back(std::move(group));
  }
  return groups;
}

}  // namespace mla
