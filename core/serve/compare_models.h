// What was written for other engines, read again, against the model that it was written of.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "core/model/decoder.h"

namespace mla {

/// Differences of logits are relative to the standard deviation of the model's own.
struct ModelComparison {
  std::int64_t tokens = 0;
  double largest = 0, rms = 0;  ///< of logits over all tokens
  double stepwise = 0;          ///< the written model token by token through its cache, from itself over whole rows
  double same_choice = 0;       ///< share of tokens behind which both put the same next one first
  std::int64_t cached = 0, cached_by_model = 0;  ///< values per token, all layers
};

/// Compares on rows of ids [rows, length], int64.
ModelComparison compare_models(const Decoder& written, const Decoder& model, const at::Tensor& ids);

/// The `count` tokens that follow a row of ids [length] when the likeliest is taken each time.
std::vector<std::int64_t> greedy_tokens(const Decoder& decoder, const at::Tensor& ids, std::int64_t count);

}  // namespace mla
