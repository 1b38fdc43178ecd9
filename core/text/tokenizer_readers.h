// One reader per file format; load_tokenizer() chooses among them.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/base/json.h"
#include "core/text/bpe_merges.h"
#include "core/text/pre_tokenizer.h"
#include "core/text/tokenizer.h"
#include "core/text/tokenizer_config.h"

namespace mla {

/// The file that load_tokenizer() reads: `path` itself, or the first of a folder. Throws DataError where there is none.
std::filesystem::path tokenizer_file(const std::filesystem::path& path);

/// Whether a file *.model is sentencepiece's, a protocol buffer, or else tiktoken's, lines of base64 and a number.
bool is_sentencepiece(const std::filesystem::path& path);

// All readers throw DataError naming the file and the malformed place.

/// tokenizer.json of the tokenizers library, with a BPE or Unigram model. Its `truncation` and `padding` are the
/// caller's matter and ignored. A tokenizer_config.json beside it adds tokens; add_bos_token and add_eos_token of it
/// count where its class is Llama's or not told, add_prefix_space for Llama's, GPT-2's and Qwen 2's classes, as in
/// transformers. BOS and EOS are those of the config; else the template's, else the token of the usual name (<s>,
/// <|begin_of_text|>, <|endoftext|>; </s>, <|end_of_text|>, <|endoftext|>).
std::unique_ptr<Tokenizer> read_hf_tokenizer(const std::filesystem::path& path);

/// The same of what a tokenizer.json says, and a tokenizer_config.json beside it; `name` stands for the file in errors.
std::unique_ptr<Tokenizer> make_hf_tokenizer(LargeJson json, TokenizerConfig config, const std::string& name);

/// The tokens of a tokenizer.json and of the files beside it, and what the latter make of it.
struct HfTokens {
  LargeJson json;  ///< with the prefix that tokenizer_config.json asks for
  TokenizerConfig config;
  Vocabulary spelt;  ///< of its model
  std::vector<AddedToken> added;
};
HfTokens read_hf_tokens(const std::filesystem::path& path);

/// vocab.json and merges.txt of byte-level BPE (GPT-2 names them encoder.json and vocab.bpe). These files do not say
/// how text is cut: Qwen 2's way (its regex, NFC, <|endoftext|> added after the vocabulary) when tokenizer_config.json
/// beside them has the tokenizer_class Qwen2Tokenizer, or, without a class, when the vocabulary has Qwen 2's 151,643
/// entries; else GPT-2's. The config adds tokens, BOS, EOS and a space in front as it does in transformers.
std::unique_ptr<Tokenizer> read_vocab_merges(const std::filesystem::path& vocab, const std::filesystem::path& merges);

/// The tokens of such files and of the config beside them; whether they are cut as Qwen 2's, and get a space in front.
struct VocabMergesTokens {
  Vocabulary spelt;
  std::vector<std::pair<std::string, std::string>> merges;
  std::vector<AddedToken> added;
  bool qwen2 = false, prefix_space = false;
};
VocabMergesTokens read_vocab_merges_tokens(const std::filesystem::path& vocab, const std::filesystem::path& merges);

/// tiktoken ranks: Llama 3 (128,000 ranks and 256 special tokens after them) and GPT-2 (50,256 ranks and
/// <|endoftext|>).
std::unique_ptr<Tokenizer> read_tiktoken(const std::filesystem::path& path);

/// Byte-level BPE from ranks by spelling in bytes; `special` get the ids after the largest rank, the first of them is
/// BOS, and EOS is `eos`, where `config` does not say otherwise.
std::unique_ptr<Tokenizer> make_tiktoken_tokenizer(Vocabulary ranks, std::unique_ptr<PreTokenizer> splitter,
                                                   const std::vector<std::string>& special, const std::string& eos,
                                                   bool adds_bos, const TokenizerConfig& config = {});

/// A sentencepiece model, through libsentencepiece.
std::unique_ptr<Tokenizer> read_sentencepiece(const std::filesystem::path& path);

/// The same of a model file's bytes.
std::unique_ptr<Tokenizer> make_sentencepiece(const std::string& model, const std::string& name,
                                              TokenizerConfig config);

/// The tokenizer in a GGUF file: byte-level BPE, or a sentencepiece model. Files beside it do not count.
std::unique_ptr<Tokenizer> read_gguf_tokenizer(const std::filesystem::path& path);

/// The tokens of a llama2.c file by id, their spaces as spaces: 0 is unknown, 1 BOS, 2 EOS.
struct ScoredTokens {
  std::vector<std::string> spellings;
  std::vector<float> scores;
};
ScoredTokens read_llama2c_tokens(const std::filesystem::path& path);

/// tokenizer.bin of llama2.c (run.c): merges by score, BOS 1, EOS 2.
std::unique_ptr<Tokenizer> read_llama2c(const std::filesystem::path& path);

}  // namespace mla
