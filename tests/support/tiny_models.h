// Small random models of every family, for tests that need no real weights.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "core/model/checkpoint.h"

namespace mla::test {

/// The kinds of model that conversions and attention must serve: "mha", "gqa", "biases" (qwen2), "qk_norm" (qwen3),
/// "window" (mistral), "yarn".
std::vector<std::string> tiny_kinds();

/// Two layers, hidden 32, four query heads of width 8, vocabulary 50; to be changed, or as it is.
UniformModel tiny_model(const std::string& kind);
ModelSpec tiny_spec(const std::string& kind);

/// Random weights of that geometry, the same for the same seed.
Decoder tiny_decoder(const ModelSpec& spec, at::ScalarType dtype = at::kDouble, std::uint64_t seed = 1);

/// A checkpoint whose config.json states the geometry.
Checkpoint tiny_checkpoint(const std::string& kind, at::ScalarType dtype = at::kDouble);

/// Random ids [batch, length] below the vocabulary.
at::Tensor random_ids(const ModelSpec& spec, std::int64_t batch, std::int64_t length, std::uint64_t seed = 7);

/// Largest absolute difference.
double largest_difference(const at::Tensor& a, const at::Tensor& b);

}  // namespace mla::test
