// The token ids of words seen before, so that a frequent word is merged once.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace mla {

/// A bounded map from words to token ids; it forgets everything when it is full. One thread at a time.
class WordCache {
 public:
  WordCache();

  /// The ids of `word`, valid until the next insert; nothing when the word is not known.
  std::optional<std::span<const std::int32_t>> find(std::string_view word);

  /// Stores a word that the last find() did not know. Long words, which seldom come again, are not stored.
  void insert(std::string_view word, std::span<const std::int32_t> ids);

 private:
  struct Slot {
    std::uint32_t hash = 0, word_at = 0, ids_at = 0;
    std::uint16_t word_size = 0, ids_size = 0;  // A slot with word_size 0 is free.
  };
  std::vector<Slot> slots_;
  std::string words_;
  std::vector<std::int32_t> ids_;
  std::size_t used_ = 0;
  std::uint64_t last_hash_ = 0;
  std::size_t last_slot_ = 0;
};

}  // namespace mla
