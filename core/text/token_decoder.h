// From the spellings of tokens back to text.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/base/json.h"

namespace mla {

/// Turns the spellings of tokens into the parts of a text. Immutable.
class TokenDecoder {
 public:
  virtual ~TokenDecoder() = default;

  /// The parts, joined, are the text; they may be invalid UTF-8 only if the spellings were.
  virtual std::vector<std::string> apply(std::vector<std::string> tokens) const = 0;
};

/// Tokens spelt in the byte-level alphabet become their bytes; one with another character stays as it is.
std::unique_ptr<TokenDecoder> make_byte_level_decoder();

/// Runs of tokens "<0x0A>" become their bytes, or one U+FFFD each when these are not UTF-8.
std::unique_ptr<TokenDecoder> make_byte_fallback_decoder();

/// Joins all tokens into one.
std::unique_ptr<TokenDecoder> make_fuse_decoder();

/// Takes up to `start` times the character `content` off the front of each token and up to `stop` times off its end.
std::unique_ptr<TokenDecoder> make_strip_decoder(std::string content, std::size_t start, std::size_t stop);

/// Applies several in order.
std::unique_ptr<TokenDecoder> make_decoder_sequence(std::vector<std::unique_ptr<TokenDecoder>> parts);

/// The `decoder` of a tokenizer.json. Without one (null), tokens are joined by spaces, as the reference does.
/// Throws DataError naming an unsupported type.
std::unique_ptr<TokenDecoder> read_decoder(const LargeJson& json, const std::string& where);

}  // namespace mla
