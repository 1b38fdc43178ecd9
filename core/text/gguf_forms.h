// The two forms that a tokenizer in a GGUF file has: byte-level BPE, and sentencepiece.
#pragma once

#include "core/base/json.h"
#include "core/gguf/file.h"
#include "core/text/gguf_vocabulary.h"

namespace mla {

/// What tokenizer.json of the tokenizers library says for the same tokens, merges and way to cut text. Throws DataError
/// for a tokenizer.ggml.pre that is not known, naming those that are.
LargeJson gguf_bpe_json(const gguf::File& file, const GgufVocabulary& vocabulary);

/// The bytes of a sentencepiece model file (BPE by scores) for the tokens of `vocabulary` and their scores.
std::string gguf_sentencepiece(const gguf::File& file, const GgufVocabulary& vocabulary);

}  // namespace mla
