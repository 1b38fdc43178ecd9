// Rules of tensors: those that config.json announces are there, of their shapes, and no others.
#include <ATen/ATen.h>

#include <algorithm>
#include <map>

#include "core/base/error.h"
#include "core/serve/served_folder.h"

namespace mla {
namespace {

using Shape = std::vector<std::int64_t>;

/// The largest weight that the norm on the latent has in float16 before its rows vanish there.
constexpr double kMostNarrowWeight = 4096;
constexpr const char* kLatentNorm = "kv_a_layernorm.weight";

/// What config.json announces; all sizes are there.
class Announced {
 public:
  explicit Announced(const Json& config) : config_(config), biased_(config.value("attention_bias", Json()) == true) {}

  std::map<std::string, Shape> shapes() const {
    const std::int64_t d = size("hidden_size"), vocabulary = size("vocab_size");
    std::map<std::string, Shape> all = {{"model.embed_tokens.weight", {vocabulary, d}}, {"model.norm.weight", {d}}};
    if (config_.value("tie_word_embeddings", Json()) != true) all["lm_head.weight"] = {vocabulary, d};
    for (std::int64_t layer = 0; layer < size("num_hidden_layers"); ++layer) {
      for (const auto& [name, shape] : of_layer()) all[cat("model.layers.", layer, ".", name)] = shape;
    }
    return all;
  }

 private:
  std::int64_t size(const char* key) const { return config_.at(key).get<std::int64_t>(); }

  std::map<std::string, Shape> of_layer() const {
    const std::int64_t d = size("hidden_size"), m = size("intermediate_size"), heads = size("num_attention_heads");
    std::map<std::string, Shape> all = attention(d, heads);
    all["mlp.gate_proj.weight"] = all["mlp.up_proj.weight"] = {m, d};
    all["mlp.down_proj.weight"] = {d, m};
    all["input_layernorm.weight"] = all["post_attention_layernorm.weight"] = {d};
    return all;
  }

  std::map<std::string, Shape> attention(std::int64_t d, std::int64_t heads) const {
    const std::int64_t latent = size("kv_lora_rank"), rotated = size("qk_rope_head_dim");
    const std::int64_t content = size("qk_nope_head_dim"), value = size("v_head_dim");
    const std::int64_t queries = heads * (content + rotated);
    std::map<std::string, Shape> all = {{"self_attn.kv_a_proj_with_mqa.weight", {latent + rotated, d}},
                                        {cat("self_attn.", kLatentNorm), {latent}},
                                        {"self_attn.kv_b_proj.weight", {heads * (content + value), latent}},
                                        {"self_attn.o_proj.weight", {d, heads * value}}};
    if (biased_) {
      all["self_attn.kv_a_proj_with_mqa.bias"] = {latent + rotated};
      all["self_attn.o_proj.bias"] = {d};
    }
    const Json rank = config_.at("q_lora_rank");
    if (!rank.is_number_integer()) {
      all["self_attn.q_proj.weight"] = {queries, d};
      return all;
    }
    const std::int64_t width = rank.get<std::int64_t>();
    all["self_attn.q_a_proj.weight"] = {width, d};
    all["self_attn.q_a_layernorm.weight"] = {width};
    all["self_attn.q_b_proj.weight"] = {queries, width};
    if (biased_) all["self_attn.q_a_proj.bias"] = {width};
    return all;
  }

  const Json& config_;
  bool biased_;
};

void add_missing(const ServedFolder& folder, const std::map<std::string, Shape>& announced,
                 std::vector<BrokenRule>& broken) {
  for (const auto& [name, shape] : announced) {
    const auto found = folder.tensors.find(name);
    if (found == folder.tensors.end()) {
      const bool norm = name.ends_with(kLatentNorm);
      broken.push_back({known_engines(), cat(name, " is missing: engines ", norm ? "take ones" : "take random numbers",
                                             " for it, or refuse the folder")});
    } else if (found->second.sizes() != at::IntArrayRef(shape)) {
      broken.push_back({known_engines(), cat(name, " has the shape ", brief(Json(found->second.sizes().vec())),
                                             ": config.json makes it ", brief(Json(shape)))});
    }
  }
}

void add_unannounced(const ServedFolder& folder, const std::map<std::string, Shape>& announced,
                     std::vector<BrokenRule>& broken) {
  for (const auto& [name, tensor] : folder.tensors) {
    if (announced.contains(name)) continue;
    const bool bias = name.ends_with(".bias");
    broken.push_back({known_engines(), cat(name, " has no place in this class",
                                           bias ? ", which is without that bias" : "", ": it would be left out")});
  }
}

void add_vanished(const ServedFolder& folder, std::vector<BrokenRule>& broken) {
  for (const auto& [name, tensor] : folder.tensors) {
    if (!name.ends_with(kLatentNorm) || tensor.scalar_type() != at::kHalf) continue;
    const double largest = tensor.to(at::kFloat).abs().max().item<double>();
    if (largest <= kMostNarrowWeight) continue;
    broken.push_back({known_engines(), cat(name, " = ", largest, " in float16: rows of the latent as small as that ",
                                           "needs vanish there; store bfloat16, or share it with input_layernorm")});
  }
}

}  // namespace

std::vector<BrokenRule> broken_tensor_rules(const ServedFolder& folder) {
  std::vector<BrokenRule> broken;
  const std::map<std::string, Shape> announced = Announced(folder.config).shapes();
  add_missing(folder, announced, broken);
  add_unannounced(folder, announced, broken);
  add_vanished(folder, broken);
  return broken;
}

}  // namespace mla
