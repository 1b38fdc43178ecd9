// The tokenizer in a GGUF file, as the files that say the same in a model folder.
#pragma once

#include <filesystem>
#include <string>

#include "core/base/json.h"
#include "core/gguf/file.h"

namespace mla {

/// tokenizer.json or tokenizer.model, and tokenizer_config.json beside it, which holds the chat template, too.
struct GgufTokenizer {
  LargeJson bpe;       ///< tokenizer.json of byte-level BPE; null for a sentencepiece model
  std::string pieces;  ///< the bytes of tokenizer.model; empty for BPE
  Json config;         ///< tokenizer_config.json
};

/// Throws DataError naming the file and the key: for a kind of tokenizer (tokenizer.ggml.model) or a way to cut text
/// (tokenizer.ggml.pre) that is not known, with those that are; for lists of different lengths, ids that are no tokens,
/// tokens that are no text or stand there twice; and for keys of tokenizer.ggml that nobody understood.
GgufTokenizer describe_gguf_tokenizer(const gguf::File& file);

/// Writes those files into `folder`. Nothing for a file without a tokenizer.
void write_gguf_tokenizer(const std::filesystem::path& gguf, const std::filesystem::path& folder);

/// A hash of what the file says of its tokenizer; its weights do not matter.
std::string hash_gguf_tokenizer(const std::filesystem::path& gguf);

}  // namespace mla
