// Cutting a normalized text into the words that are merged one by one.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/json.h"
#include "core/text/function_ref.h"
#include "core/text/pattern.h"

namespace mla {

/// A stretch of text on its way through the pre-tokenizers.
struct Piece {
  std::string_view text;
  bool first = false;  // It begins where the whole text begins.
};

using PieceSink = FunctionRef<void(Piece)>;

/// Cuts a piece into smaller ones. Immutable.
class PreTokenizer {
 public:
  virtual ~PreTokenizer() = default;

  /// Calls `sink` with each piece, in order, none of them empty; a piece lives only during the call.
  virtual void split(Piece piece, PieceSink sink) const = 0;
};

/// The pattern of GPT-2: contractions, letters, numbers and other characters with one space before them, white space.
std::unique_ptr<PreTokenizer> make_gpt2_splitter();
extern const char* const kGpt2Regex;

/// The pattern of Llama 3 (numbers of up to three digits), and with `digits` = 1 that of Qwen 2.
std::unique_ptr<PreTokenizer> make_llama3_splitter(int digits);
extern const char* const kLlama3Regex;
extern const char* const kQwen2Regex;

/// What becomes of the matches of a pattern.
enum class SplitBehavior { kIsolated, kRemoved, kMergedWithPrevious, kMergedWithNext, kContiguous };

/// Splits at the matches of any pattern; `invert` swaps matches and gaps.
std::unique_ptr<PreTokenizer> make_pattern_splitter(std::unique_ptr<Pattern> pattern, SplitBehavior behavior,
                                                    bool invert);

/// Words (`\w+`) and runs of other characters that are no white space (`[^\w\s]+`), after Rust's regex library.
std::unique_ptr<PreTokenizer> make_word_splitter();

/// When Metaspace puts its replacement character before a text.
enum class PrependScheme { kAlways, kFirst, kNever };

/// Replaces spaces by `replacement` and, when `splits`, cuts before each of them.
std::unique_ptr<PreTokenizer> make_metaspace(std::string replacement, PrependScheme scheme, bool splits);

/// Puts a space before pieces that have none, then cuts with `inner` (nothing: not at all).
std::unique_ptr<PreTokenizer> make_prefix_space(std::unique_ptr<PreTokenizer> inner);

/// Applies several, each to the pieces of the one before.
std::unique_ptr<PreTokenizer> make_pre_tokenizer_sequence(std::vector<std::unique_ptr<PreTokenizer>> parts);

/// The character that a Metaspace component (also of the decoder) has for a space.
std::string read_replacement(const LargeJson& json, const std::string& where);

/// The scheme of a Metaspace component (also of the decoder), in its present and its older spelling.
PrependScheme read_prepend_scheme(const LargeJson& json, const std::string& where);

/// What a tokenizer.json says about pre-tokenization.
struct PreTokenization {
  std::unique_ptr<PreTokenizer> splitter;  // None: the whole text is one word.
  bool byte_level = false;                 // Words are merged from bytes.
};

/// The `pre_tokenizer` of a tokenizer.json. Throws DataError naming an unsupported type.
PreTokenization read_pre_tokenizer(const LargeJson& json, const std::string& where);

}  // namespace mla
