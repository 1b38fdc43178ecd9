// Tokenizers: text to token ids and back, whatever file format the vocabulary comes in.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace mla {

/// What encode does besides splitting the text.
struct EncodeOptions {
  /// Add the special tokens of the tokenizer's own rules: its post-processor, or BOS where the format has one.
  bool add_bos = false;
  /// Read the spelling of special tokens in the text as these tokens where the format does not do so by itself
  /// (tokenizer.json does, as its reference library; tiktoken, sentencepiece and llama2.c take them as plain text).
  bool parse_special = false;
};

/// A vocabulary and the rules to use it. Immutable after loading and safe to share between threads.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  /// The token ids of `text`. Bytes that are not UTF-8 count as U+FFFD; NUL is a character like any other.
  virtual std::vector<std::int32_t> encode(std::string_view text, EncodeOptions options = {}) const = 0;

  /// The text of `ids`, always valid UTF-8; special tokens are left out when `skip_special`.
  /// Throws DataError naming an id that the vocabulary does not have.
  virtual std::string decode(std::span<const std::int32_t> ids, bool skip_special = true) const = 0;

  /// The largest id plus one, added tokens included.
  virtual std::int64_t vocabulary_size() const = 0;

  /// The ids that begin and end a document, where the tokenizer names such tokens.
  virtual std::optional<std::int32_t> bos() const = 0;
  virtual std::optional<std::int32_t> eos() const = 0;

  /// Hash of what decides the ids of a text: the files that load_tokenizer() read the vocabulary from, and the special
  /// tokens put around a text. Token shards name it. Empty for a tokenizer that was not made by load_tokenizer().
  const std::string& content_hash() const { return content_hash_; }

  /// What the files beside the tokenizer's own have changed of its tokens, for the content hash; empty for nothing.
  virtual std::string effect_of_config() const { return {}; }

 private:
  friend std::unique_ptr<Tokenizer> load_tokenizer(const std::filesystem::path& path);
  friend std::unique_ptr<Tokenizer> limit_ids(std::unique_ptr<Tokenizer>, std::int64_t, std::string);
  std::string content_hash_;
};

/// Loads a tokenizer from a file or from the first of these that a folder holds: tokenizer.json; tokenizer.model
/// (sentencepiece or tiktoken, by content); vocab.json + merges.txt; encoder.json + vocab.bpe; *.tiktoken;
/// tok*.model; tok*.bin (llama2.c). tokenizer_config.json, added_tokens.json and special_tokens_map.json beside the
/// first three add tokens, name BOS and EOS, and say what is put around a text (see tokenizer_config.h).
/// Throws DataError naming what was looked for, the malformed place, or the unsupported component.
std::unique_ptr<Tokenizer> load_tokenizer(const std::filesystem::path& path);

/// `tokenizer` for a model with embeddings for the ids below `limit` only: encode() throws DataError "<where>: …" with
/// the id and the token when a text has another one, which is usual for a padding token that was added later.
std::unique_ptr<Tokenizer> limit_ids(std::unique_ptr<Tokenizer> tokenizer, std::int64_t limit, std::string where);

/// Encodes each text on up to `threads` threads. The result keeps the order of `texts`.
std::vector<std::vector<std::int32_t>> encode_batch(const Tokenizer& tokenizer, std::span<const std::string> texts,
                                                    EncodeOptions options = {}, int threads = 1);

}  // namespace mla
