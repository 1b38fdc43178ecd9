// Unigram tokenization: the split of a word into pieces whose scores have the largest sum.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/text/bpe_merges.h"

namespace mla {

/// A vocabulary with scores, as tokenizer.json names them.
struct UnigramRules {
  std::vector<std::pair<std::string, double>> pieces;  // By id: spelling and score (a logarithm of a probability).
  std::optional<std::int32_t> unknown;
  bool byte_fallback = false;  // Unknown characters become their bytes, as the pieces <0x00> to <0xFF>, if these exist.
};

/// Encodes words as the tokenizers library does. Immutable.
class UnigramModel {
 public:
  explicit UnigramModel(UnigramRules rules);

  /// Appends the ids of `word` (valid UTF-8) to `ids`: of the best path, the first found among equals. Unknown
  /// characters in a row are one unknown token. Throws DataError for a character that no piece and no unknown covers.
  void encode(std::string_view word, std::vector<std::int32_t>& ids) const;

 private:
  /// The best way to reach a place of the word: the last piece, and where it begins.
  struct Step {
    double score = 0;
    std::size_t begin = SIZE_MAX;  // Not reached yet.
    std::int32_t id = -1;
  };
  struct Node {
    std::uint32_t first_child = 0, next_sibling = 0;  // 0: none.
    std::int32_t id = -1;
    char byte = 0;
  };

  void insert(std::string_view spelling, std::int32_t id);
  std::uint32_t child(std::uint32_t node, char byte) const;
  std::vector<Step> best_steps(std::string_view word) const;
  void append(std::string_view part, std::int32_t id, std::vector<std::int32_t>& ids) const;
  [[noreturn]] static void refuse(std::string_view part);

  UnigramRules rules_;
  Vocabulary ids_;
  double unknown_score_ = 0;
  std::vector<Node> nodes_;                    // A trie; 0 is its root.
  std::array<std::uint32_t, 256> first_{};     // The children of the root by byte.
  std::array<std::int32_t, 256> byte_tokens_;  // -1: none.
};

}  // namespace mla
