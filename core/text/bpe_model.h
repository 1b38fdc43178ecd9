// Byte-pair encoding of one word: its first symbols, the merges, and what happens to unknown characters.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/text/bpe_merges.h"
#include "core/text/word_cache.h"

namespace mla {

/// A vocabulary and its rules, as tokenizer.json names them.
struct BpeRules {
  Vocabulary vocabulary;  // Spelt in bytes when `byte_symbols`, else in characters.
  std::vector<Merge> merges;
  bool byte_symbols = false;   // Words are merged from bytes (byte-level BPE) rather than from characters.
  bool ignore_merges = false;  // A word that is in the vocabulary is that token, whatever the merges say.
  bool byte_fallback = false;  // An unknown character becomes its bytes, as the tokens <0x00> to <0xFF>.
  bool fuse_unknown = false;   // Unknown characters in a row become one unknown token.
  std::optional<std::int32_t> unknown;
};

/// The spelling of a byte token: "<0x0A>".
std::string byte_token(unsigned char byte);

/// The byte that `token` spells, when it is a byte token.
std::optional<unsigned char> byte_of_token(std::string_view token);

/// Encodes words. Immutable; each thread brings a Workspace.
class BpeModel {
 public:
  /// Buffers and the cache of one thread at a time; used with one model only.
  struct Workspace {
    WordCache cache;
    Merger merger;
    std::vector<std::int32_t> symbols;
  };

  explicit BpeModel(BpeRules rules);

  /// Appends the ids of `word` (valid UTF-8, or any bytes when the symbols are bytes) to `ids`.
  void encode(std::string_view word, Workspace& workspace, std::vector<std::int32_t>& ids) const;

 private:
  std::optional<std::int32_t> find(std::string_view spelling) const;
  void find_parts_rule();
  void encode_part(std::string_view part, Workspace& workspace, std::vector<std::int32_t>& ids) const;
  void append_symbols(std::string_view part, std::vector<std::int32_t>& symbols) const;
  bool append_bytes(std::string_view character, std::vector<std::int32_t>& symbols) const;

  BpeRules rules_;
  MergeTable merges_;
  std::array<std::optional<std::int32_t>, 256> single_bytes_;  // Tokens of one byte.
  std::array<std::optional<std::int32_t>, 256> byte_tokens_;   // Tokens spelt <0xNN>, when byte_fallback.
  // Characters that are side by side inside some token. Between any others a word may be cut before merging: no merge
  // reaches across. Only for words of characters, which may be whole documents.
  bool cuts_words_ = false;
  std::vector<bool> joined_;
};

}  // namespace mla
