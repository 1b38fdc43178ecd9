#include "core/base/error.h"
#include "core/evaluate/continuation.h"
#include "core/metrics/unicode_text.h"
#include "core/text/utf8.h"

namespace mla {
namespace {

/// How much of the text stands before the white space at its end.
std::size_t without_space(const std::string& text) {
  std::size_t end = text.size();
  while (end > 0) {
    const CodePoint last = read_utf8_before(text.data() + end);
    if (!is_python_space(last.value)) break;
    end -= last.size;
  }
  return end;
}

/// What a text without a context is conditioned on where the tokenizer's own rules put nothing in front of it.
std::optional<std::int32_t> first_token(const Tokenizer& tokenizer) {
  return tokenizer.bos() ? tokenizer.bos() : tokenizer.eos();
}

}  // namespace

Continuation join_continuation(std::vector<std::int32_t> context, const std::vector<std::int32_t>& whole) {
  std::size_t split = context.size();
  if (split >= whole.size()) {
    split = whole.empty() ? 0 : whole.size() - 1;
    context.assign(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(split));
  }
  if (split == 0)
    throw DataError("no token to condition on: the context is empty and the tokenizer puts none in front");
  context.insert(context.end(), whole.begin() + static_cast<std::ptrdiff_t>(split), whole.end());
  return {std::move(context), static_cast<std::int64_t>(split)};
}

std::vector<ContinuationGroup> encode_continuations(const Tokenizer& tokenizer,
                                                    const std::vector<std::string>& contexts,
                                                    const std::vector<std::vector<std::string>>& choices, int threads,
                                                    const Chat* chat) {
  expects(contexts.size() == choices.size(), "one list of choices per context");
  std::vector<std::string> texts;  // of each item its context, then context and choice together
  for (std::size_t i = 0; i < contexts.size(); ++i) {
    const std::string context = chat ? chat->text(contexts[i]) : contexts[i];
    texts.push_back(context.substr(0, without_space(context)));
    for (const std::string& choice : choices[i]) texts.push_back(context + choice);
  }
  const EncodeOptions how{.add_bos = chat == nullptr, .parse_special = chat != nullptr};
  auto encoded = encode_batch(tokenizer, texts, how, threads);
  if (chat) {
    for (auto& ids : encoded) ids.insert(ids.begin(), chat->first().begin(), chat->first().end());
  }
  std::vector<ContinuationGroup> groups;
  auto at = encoded.begin();
  for (std::size_t i = 0; i < contexts.size(); ++i) {
    std::vector<std::int32_t> context = *at++;
    const bool conditioned = !context.empty();
    if (!conditioned && first_token(tokenizer)) context.push_back(*first_token(tokenizer));
    ContinuationGroup group;
    try {
      for (std::size_t choice = 0; choice < choices[i].size(); ++choice) {
        std::vector<std::int32_t> whole = *at++;
        if (!conditioned) whole.insert(whole.begin(), context.begin(), context.end());
        group.push_back(join_continuation(context, whole));
      }
    } catch (const DataError& error) {
      throw DataError(cat("item ", i + 1, ": ", error.what()));
    }
    groups.push_back(std::move(group));
  }
  return groups;
}

}  // namespace mla
