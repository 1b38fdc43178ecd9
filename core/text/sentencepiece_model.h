// What a sentencepiece model file says, as far as its own library does not tell.
#pragma once

#include <optional>
#include <string_view>

#include "core/text/bpe_model.h"

namespace mla {

/// A BPE model whose text needs no other normalization than spaces becoming U+2581.
struct SentencePieceBpe {
  BpeRules rules;
  bool dummy_prefix = true;  // A space is put before every text.
};

/// The rules of the model in `bytes` (a valid model file) when merging by them gives what the library gives; nothing
/// for unigram models, for those with a character map, with user-defined or unused pieces and the like.
std::optional<SentencePieceBpe> read_sentencepiece_bpe(std::string_view bytes);

}  // namespace mla
