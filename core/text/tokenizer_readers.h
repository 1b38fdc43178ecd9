// One reader per file format; load_tokenizer() chooses among them.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/text/bpe_merges.h"
#include "core/text/pre_tokenizer.h"
#include "core/text/tokenizer.h"

namespace mla {

// All readers throw DataError naming the file and the malformed place.

/// tokenizer.json of the tokenizers library, with a BPE model. Its `truncation` and `padding` are the caller's matter
/// and ignored. BOS and EOS are those of tokenizer_config.json beside it; else the template's, else the token of the
/// usual name (<s>, <|begin_of_text|>, <|endoftext|>; </s>, <|end_of_text|>, <|endoftext|>).
std::unique_ptr<Tokenizer> read_hf_tokenizer(const std::filesystem::path& path);

/// vocab.json and merges.txt of byte-level BPE (GPT-2 names them encoder.json and vocab.bpe). These files do not say
/// how text is cut: Qwen 2's way (its regex, NFC, <|endoftext|> added after the vocabulary) when tokenizer_config.json
/// beside them has a tokenizer_class Qwen2…, or, without a class, when the vocabulary has Qwen 2's 151,643 entries;
/// else GPT-2's.
std::unique_ptr<Tokenizer> read_vocab_merges(const std::filesystem::path& vocab, const std::filesystem::path& merges);

/// tiktoken ranks: Llama 3 (128,000 ranks and 256 special tokens after them) and GPT-2 (50,256 ranks and
/// <|endoftext|>).
std::unique_ptr<Tokenizer> read_tiktoken(const std::filesystem::path& path);

/// Byte-level BPE from ranks by spelling in bytes; `special` get the ids after the largest rank, the first of them is
/// BOS, and EOS is `eos`.
std::unique_ptr<Tokenizer> make_tiktoken_tokenizer(Vocabulary ranks, std::unique_ptr<PreTokenizer> splitter,
                                                   const std::vector<std::string>& special, const std::string& eos,
                                                   bool adds_bos);

/// A sentencepiece model, through libsentencepiece.
std::unique_ptr<Tokenizer> read_sentencepiece(const std::filesystem::path& path);

/// tokenizer.bin of llama2.c (run.c): merges by score, BOS 1, EOS 2.
std::unique_ptr<Tokenizer> read_llama2c(const std::filesystem::path& path);

/// What a tokenizer_config.json says; nothing of it when there is no such file.
struct TokenizerConfig {
  std::string tokenizer_class;
  std::optional<std::string> bos, eos;
  std::optional<bool> add_bos, add_eos;
};
TokenizerConfig read_tokenizer_config(const std::filesystem::path& folder);

}  // namespace mla
