// What is done to a text before it is cut into words.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/json.h"
#include "core/text/pattern.h"

namespace mla {

/// Maps a text to a text. Immutable.
class Normalizer {
 public:
  virtual ~Normalizer() = default;

  /// `text` is valid UTF-8, and so is the result.
  virtual std::string apply(std::string text) const = 0;
};

/// Unicode normalization "NFC", "NFD", "NFKC" or "NFKD", after Unicode 9 as the tokenizers library has it:
/// characters added later stay as they are.
std::unique_ptr<Normalizer> make_unicode_normalizer(const std::string& form);

/// Puts `prefix` before every text that is not empty.
std::unique_ptr<Normalizer> make_prepend_normalizer(std::string prefix);

/// Replaces every match of `pattern` by `content`.
std::unique_ptr<Normalizer> make_replace_normalizer(std::unique_ptr<Pattern> pattern, std::string content);

/// Applies several in order.
std::unique_ptr<Normalizer> make_normalizer_sequence(std::vector<std::unique_ptr<Normalizer>> parts);

/// The `normalizer` of a tokenizer.json; nothing for null. Throws DataError naming an unsupported type.
std::unique_ptr<Normalizer> read_normalizer(const LargeJson& json, const std::string& where);

}  // namespace mla
