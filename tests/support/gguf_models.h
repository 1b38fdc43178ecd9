// GGUF files of small models and tokenizers.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/gguf_bytes.h"
#include "tests/text/tiny_tokenizers.h"

namespace mla::test {

/// The tokens of tiny_byte_level(), and the control tokens <bos> (261) and <eos> (262) behind them.
inline GgufBytes& add_tiny_byte_level(GgufBytes& file, const std::string& pre = "gpt-2") {
  const TinyJson json = tiny_byte_level();
  std::vector<std::string> tokens(json["model"]["vocab"].size());
  for (const auto& [token, id] : json["model"]["vocab"].items()) tokens[id.get<std::size_t>()] = token;
  std::vector<std::int32_t> types(tokens.size(), 1);
  for (const char* token : {"<bos>", "<eos>"}) {
    tokens.emplace_back(token);
    types.push_back(3);
  }
  file.text("tokenizer.ggml.model", "gpt2").text("tokenizer.ggml.pre", pre);
  file.texts("tokenizer.ggml.tokens", tokens).numbers("tokenizer.ggml.token_type", types);
  file.texts("tokenizer.ggml.merges", json["model"]["merges"].get<std::vector<std::string>>());
  file.number("tokenizer.ggml.bos_token_id", 261U).number("tokenizer.ggml.eos_token_id", 262U);
  return file.text("tokenizer.chat_template", "{{ messages }}");
}

/// As Llama 2's: <unk>, <s>, </s>, the 256 bytes (ids 3 to 258), then merges by score.
inline GgufBytes& add_tiny_pieces(GgufBytes& file) {
  std::vector<std::string> tokens = {"<unk>", "<s>", "</s>"};
  std::vector<std::int32_t> types = {2, 3, 3};
  std::vector<float> scores(3, 0);
  for (int byte = 0; byte < 256; ++byte) {
    tokens.push_back(byte_token(static_cast<unsigned char>(byte)));
    types.push_back(6);
    scores.push_back(0);
  }
  float score = 0;
  for (const char* token : {"▁a", "ab", "▁ab", "▁", "a", "b"}) {
    tokens.emplace_back(token);
    types.push_back(1);
    scores.push_back(--score);
  }
  file.text("tokenizer.ggml.model", "llama").texts("tokenizer.ggml.tokens", tokens);
  file.numbers("tokenizer.ggml.token_type", types).numbers("tokenizer.ggml.scores", scores);
  file.number("tokenizer.ggml.bos_token_id", 1U).number("tokenizer.ggml.eos_token_id", 2U);
  return file.number("tokenizer.ggml.unknown_token_id", 0U);
}

/// The keys of a model of one block: hidden 4, two query heads and a KV head of width 2, feed-forward 6, five tokens.
inline GgufBytes& add_smallest_keys(GgufBytes& file, const std::string& architecture) {
  const std::string prefix = architecture + ".";
  file.text("general.architecture", architecture);
  for (const auto& [key, value] : std::vector<std::pair<std::string, std::uint32_t>>{{"block_count", 1},
                                                                                     {"context_length", 16},
                                                                                     {"embedding_length", 4},
                                                                                     {"feed_forward_length", 6},
                                                                                     {"attention.head_count", 2},
                                                                                     {"attention.head_count_kv", 1}})
    file.number(prefix + key, value);
  return file.number(prefix + "attention.layer_norm_rms_epsilon", 1e-5F);
}

/// Its tensors, by the names of files; `leave_out` names one that is not there.
inline GgufBytes& add_smallest_tensors(GgufBytes& file, const std::string& leave_out = "") {
  const std::vector<std::pair<std::string, std::vector<std::int64_t>>> shapes = {
      {"token_embd.weight", {5, 4}},   {"output_norm.weight", {4}},          {"blk.0.attn_norm.weight", {4}},
      {"blk.0.ffn_norm.weight", {4}},  {"blk.0.attn_q.weight", {4, 4}},      {"blk.0.attn_k.weight", {2, 4}},
      {"blk.0.attn_v.weight", {2, 4}}, {"blk.0.attn_output.weight", {4, 4}}, {"blk.0.ffn_gate.weight", {6, 4}},
      {"blk.0.ffn_up.weight", {6, 4}}, {"blk.0.ffn_down.weight", {4, 6}}};
  for (const auto& [name, shape] : shapes) {
    std::size_t count = 1;
    for (const std::int64_t size : shape) count *= static_cast<std::size_t>(size);
    if (name != leave_out) file.tensor(name, shape, std::vector<float>(count, 0.5F));
  }
  return file;
}

}  // namespace mla::test
