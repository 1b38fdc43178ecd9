// The toy language: small English stories that a small model learns in seconds, and a tokenizer made for them.
#pragma once

#include <string>
#include <vector>

#include "core/base/json.h"
#include "core/base/random.h"

namespace mla {

/// Begins a story; the tokenizer's BOS.
inline constexpr const char* kToyBos = "<|story|>";
/// Ends a story; the tokenizer's EOS.
inline constexpr const char* kToyEos = "<|end|>";

/// One story of 60 to 78 words, decided by the stream alone: who owns what and where it lies, an aside, then questions
/// and statements that recall each of those facts. Recalling needs content (which owner, which colour, which place) and
/// order (what stood beside it); verbs, articles and pronouns agree in number with owners and things that are singular
/// or plural independently of each other.
std::string toy_story(RandomStream& stream);

/// Every word of the language, as it is spelt in stories, sorted. Stories hold besides only spaces, '.' and '?'.
std::vector<std::string> toy_lexicon();

/// A Hugging Face tokenizer.json: byte-level BPE whose merges spell each word of the lexicon, so that a word with its
/// leading space is one token, as is a capitalised word that begins a text. Any other text is spelt by bytes.
/// kToyBos and kToyEos follow the vocabulary as added tokens; the post-processor puts kToyBos in front.
Json toy_tokenizer();

/// The tokenizer_config.json beside it, which names BOS and EOS.
Json toy_tokenizer_config();

}  // namespace mla
