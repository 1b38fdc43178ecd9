// The tokens of each format of tokenizer files, as GGUF has them.
#pragma once

#include <filesystem>

#include "core/text/gguf_tokens.h"

namespace mla {

// Each throws DataError as gguf_tokens_of() does; what every tokenizer knows of itself (BOS, EOS, what is put around a
// text) is added by the caller.

/// A tokenizer.json: byte-level BPE, or BPE with bytes for unknown characters, whose merges become scores.
GgufTokens gguf_tokens_of_json(const std::filesystem::path& path);
/// vocab.json and merges.txt, of which `path` is one.
GgufTokens gguf_tokens_of_vocab_merges(const std::filesystem::path& path);
/// A sentencepiece model (BPE), and what the files beside it add.
GgufTokens gguf_tokens_of_sentencepiece(const std::filesystem::path& path);
/// A llama2.c file.
GgufTokens gguf_tokens_of_llama2c(const std::filesystem::path& path);

/// Puts a token at its id; the list grows as needed, by tokens that are not used.
void put_gguf_token(GgufTokens& tokens, std::int32_t id, std::string spelling, GgufTokenType type, float score = 0);

}  // namespace mla
