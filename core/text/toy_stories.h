// The toy language: small English stories that a small model learns in minutes, questions about them, and a tokenizer.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/base/json.h"
#include "core/base/random.h"
#include "core/text/multiple_choice_item.h"

namespace mla {

/// Begins a story; the tokenizer's BOS.
inline constexpr const char* kToyBos = "<|story|>";
/// Ends a story; the tokenizer's EOS.
inline constexpr const char* kToyEos = "<|end|>";

/// One story of 20 to 350 words, decided by the stream alone: one to six passages of different kinds (agreement at a
/// distance, who has what, where is it, order and count, copying, arithmetic; core/text/toy_passage.h), asides between
/// them, and all their questions with their answers, some after their passage and some at the story's end.
std::string toy_story(RandomStream& stream);

/// Story `index` of `count` to train on, in this order: songs sung again, then passages of few facts asked for twice,
/// then fuller ones, then more and more of them. Repeating a song teaches a small model to look back within minutes;
/// from there it learns to recall two facts, and then six, in a fraction of the tokens that these alone would take.
std::string toy_lesson(RandomStream& stream, std::int64_t index, std::int64_t count);

/// The kinds of passage, which are the names of the six tasks.
std::vector<std::string> toy_tasks();

/// A question of the kind `task` about a story that ends with it; the story's other questions stand before it with
/// their answers. Its form is that of questions in stories. The right choice stands anywhere with equal odds.
MultipleChoiceItem toy_item(const std::string& task, RandomStream& stream);

/// Every word of the language, as it is spelt in stories, sorted. Stories hold besides only spaces and ". , : ?".
std::vector<std::string> toy_lexicon();

/// A Hugging Face tokenizer.json: byte-level BPE whose merges spell each word of the lexicon, so that a word with its
/// leading space is one token, as is a capitalised word that begins a text. Any other text is spelt by bytes.
/// kToyBos and kToyEos follow the vocabulary as added tokens; the post-processor puts kToyBos in front.
Json toy_tokenizer();

/// The tokenizer_config.json beside it, which names BOS and EOS.
Json toy_tokenizer_config();

}  // namespace mla
