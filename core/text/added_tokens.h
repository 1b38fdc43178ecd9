// Tokens that are found in the text before any merging: special tokens and other added ones.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/text/function_ref.h"

namespace mla {

/// An added token with the flags of tokenizer.json.
struct AddedToken {
  std::int32_t id = 0;
  std::string content;
  bool single_word = false;  // Only where no word character stands beside it.
  bool left_strip = false;   // Takes the white space before it.
  bool right_strip = false;  // Takes the white space after it.
  bool normalized = false;   // Looked for in the normalized text rather than in the text as given.
  bool special = false;      // Left out of decoded text on request.
  bool on_request = false;   // Looked for only when EncodeOptions::parse_special is set.
};

/// Finds the spellings of tokens in a text: the leftmost, of these the longest, as the tokenizers library does.
class AddedTokenFinder {
 public:
  AddedTokenFinder() = default;
  explicit AddedTokenFinder(std::vector<AddedToken> tokens);

  bool empty() const { return tokens_.empty(); }

  /// Calls `on_text` for each stretch of text between tokens (never empty) and `on_token` for each token, in order.
  void split(std::string_view text, FunctionRef<void(std::string_view)> on_text,
             FunctionRef<void(std::int32_t)> on_token) const;

 private:
  struct Node {
    std::vector<std::pair<char, std::size_t>> children;
    std::size_t token = SIZE_MAX;
  };
  void insert(std::size_t token);
  std::size_t child(std::size_t node, char byte) const;
  std::size_t longest_match(std::string_view text, std::size_t at) const;

  std::vector<AddedToken> tokens_;
  std::vector<Node> nodes_;               // A trie; 0 is its root.
  std::array<std::size_t, 256> first_{};  // The children of the root by byte; 0 for none.
};

}  // namespace mla
