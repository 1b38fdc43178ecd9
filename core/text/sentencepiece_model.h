// What a sentencepiece model file says, as far as its own library does not tell.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/text/bpe_model.h"

namespace mla {

/// A piece with its number's type as the format counts them: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused,
/// 6 byte. GGUF counts them alike.
struct SentencePiece {
  std::string spelling;
  float score = 0;
  std::uint64_t type = 1;
};

/// What a model file holds; what it leaves out is as sentencepiece takes it.
struct SentencePieceFile {
  std::vector<SentencePiece> pieces;
  bool is_bpe = false, byte_fallback = false, space_as_suffix = false, has_chars_map = false;
  bool dummy_prefix = true, removes_spaces = true, escapes_spaces = true;
};

/// Of `bytes`, a valid model file.
SentencePieceFile read_sentencepiece_file(std::string_view bytes);

/// A BPE model whose text needs no other normalization than spaces becoming U+2581.
struct SentencePieceBpe {
  BpeRules rules;
  bool dummy_prefix = true;  // A space is put before every text.
};

/// The rules of the model in `bytes` (a valid model file) when merging by them gives what the library gives; nothing
/// for unigram models, for those with a character map, with user-defined or unused pieces and the like.
std::optional<SentencePieceBpe> read_sentencepiece_bpe(std::string_view bytes);

}  // namespace mla
