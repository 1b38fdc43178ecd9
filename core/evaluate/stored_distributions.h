// A model's predictions for the tokens of a text, kept compactly in a file.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <string>

namespace mla {

/// For each scored token t the `kept` likeliest tokens of the vocabulary, from likely to unlikely (all tokens in the
/// order of their ids when `kept` is the vocabulary): log p = largest[t] - step[t] * (code + 32768). Codes have 65,535
/// steps between the largest and the smallest kept log p, so that each log p is off by at most step / 2. A token's KL
/// is off by at most step / 2 times the mean of |log p - log q|, which is at most KL + 2 / e, and by terms of step^2.
///
/// As a file: safetensors with the members' names, and `about`, the bytes of a JSON object {"format": "mlaforge
/// distributions", "version": 1, "vocabulary", "context", "stride", "text_hash", "model"}. 6 bytes a kept token (2 when
/// all are) and 20 a scored one: 788 at 128 kept tokens, where logits of 49,152 in float32 would be 196,608.
struct StoredDistributions {
  std::int64_t vocabulary = 0, context = 0, stride = 0;
  std::string text_hash;  ///< hash of the token ids that were read; see hash_tokens()
  std::string model;      ///< where the model was read from, for people
  at::Tensor ids;         ///< int32 [tokens, kept]; undefined when all tokens are kept
  at::Tensor codes;       ///< int16 [tokens, kept]
  at::Tensor largest;     ///< float32 [tokens], log p of the likeliest token, nats
  at::Tensor step;        ///< float32 [tokens], nats
  at::Tensor tail;        ///< float32 [tokens], the probability of all tokens that were not kept; undefined as `ids`
  at::Tensor likeliest;   ///< int32 [tokens], the likeliest token: rounded, others may be as likely
  at::Tensor target_nll;  ///< float32 [tokens], -log p of the text's token, nats

  std::int64_t tokens() const { return codes.size(0); }
  std::int64_t kept() const { return codes.size(1); }
  bool whole() const { return !ids.defined(); }
  double mean_tail() const;      ///< mean probability of what was not kept; 0 when all was
  double largest_error() const;  ///< of any stored log p, nats: half the largest step
};

/// A hash of rows of token ids and where they end.
std::string hash_tokens(const std::vector<std::vector<std::int32_t>>& sequences);

/// Throws DataError naming the file when it cannot be written.
void write_distributions(const std::filesystem::path& path, const StoredDistributions& distributions);

/// The tensors stay in the file, mapped into memory. Throws DataError naming the file for one that is damaged, of
/// another format or of another version.
StoredDistributions read_distributions(const std::filesystem::path& path);

}  // namespace mla
