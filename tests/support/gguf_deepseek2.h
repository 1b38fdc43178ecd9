// The smallest GGUF file of llama.cpp's architecture deepseek2.
#pragma once

#include <cmath>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/gguf_bytes.h"

namespace mla::test {

/// A model of one dense block: hidden 4, two heads with 2 position-free and 2 rotated dims and values of 2, a latent of
/// 3, feed-forward 6, five tokens. What is stated here may be changed before bytes() puts it together.
struct SmallDeepSeek2 {
  static constexpr float kEpsilon = 1e-5F;
  /// Latents are this small, and the weight of their norm as large: it changes nothing.
  static constexpr float kShrink = 0x1p-20F;

  std::map<std::string, std::uint32_t> numbers = {{"block_count", 1},
                                                  {"context_length", 16},
                                                  {"embedding_length", 4},
                                                  {"feed_forward_length", 6},
                                                  {"attention.head_count", 2},
                                                  {"attention.head_count_kv", 1},
                                                  {"attention.q_lora_rank", 0},
                                                  {"attention.kv_lora_rank", 3},
                                                  {"attention.key_length", 5},
                                                  {"attention.value_length", 3},
                                                  {"attention.key_length_mla", 4},
                                                  {"attention.value_length_mla", 2},
                                                  {"rope.dimension_count", 2},
                                                  {"leading_dense_block_count", 1}};
  std::map<std::string, std::vector<std::int64_t>> shapes = {
      {"token_embd", {5, 4}},        {"output_norm", {4}},          {"blk.0.attn_norm", {4}},
      {"blk.0.ffn_norm", {4}},       {"blk.0.attn_q", {8, 4}},      {"blk.0.attn_kv_a_mqa", {5, 4}},
      {"blk.0.attn_kv_a_norm", {3}}, {"blk.0.attn_k_b", {2, 3, 2}}, {"blk.0.attn_v_b", {2, 2, 3}},
      {"blk.0.attn_output", {4, 4}}, {"blk.0.ffn_gate", {6, 4}},    {"blk.0.ffn_up", {6, 4}},
      {"blk.0.ffn_down", {4, 6}}};
  std::map<std::string, std::vector<float>> values;  ///< of tensors that are not as values_of() has them
  GgufBytes first;                                   ///< other keys

  /// All different, so that none can stand in another's place.
  std::vector<float> values_of(const std::string& name) const {
    if (const auto found = values.find(name); found != values.end()) return found->second;
    std::size_t count = 1;
    for (const std::int64_t size : shapes.at(name)) count *= static_cast<std::size_t>(size);
    std::vector<float> all(count);
    for (std::size_t i = 0; i < count; ++i) all[i] = 0.1F * static_cast<float>((i * 7 + name.size() * 3) % 11) - 0.4F;
    if (name.ends_with("norm")) std::fill(all.begin(), all.end(), 1.0F);
    if (name.ends_with("kv_a_norm")) std::fill(all.begin(), all.end(), std::sqrt(kEpsilon) / kShrink);
    if (name.ends_with("kv_a_mqa")) {
      for (std::size_t i = 0; i < 12; ++i) all[i] *= kShrink;
    }
    return all;
  }

  GgufBytes file() const {
    GgufBytes bytes = first;
    bytes.text("general.architecture", "deepseek2");
    for (const auto& [key, value] : numbers) bytes.number("deepseek2." + key, value);
    bytes.number("deepseek2.attention.layer_norm_rms_epsilon", kEpsilon);
    for (const auto& [name, shape] : shapes) bytes.tensor(name + ".weight", shape, values_of(name));
    return bytes;
  }
};

}  // namespace mla::test
