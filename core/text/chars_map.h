// The character map that sentencepiece compiles its normalization rules into ("precompiled_charsmap").
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/text/normalizer.h"

namespace mla {

/// The normalizer Precompiled of the tokenizers library: a short grapheme becomes what the map has for its shortest
/// known beginning, a longer one goes character by character. `bytes` is the map as in a sentencepiece model: the size
/// of a double-array trie (little endian, 32 bit), the trie, and the results, each ended by NUL.
/// Throws DataError "<where>: …" when it is damaged.
std::unique_ptr<Normalizer> make_precompiled_normalizer(std::string bytes, const std::string& where);

}  // namespace mla
