// Models on disk: safetensors, config.json, the index of shards, llama2.c weights.
#include <ATen/ATen.h>

#include <cstring>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/model/checkpoint.h"
#include "core/model/family.h"
#include "core/model/model_config.h"
#include "core/model/safetensors.h"
#include "tests/fuzz/model/tiny_config.h"
#include "tests/fuzz/support/input_files.h"
#include "tests/fuzz/support/target.h"

namespace mla::fuzz {
namespace {

/// A safetensors file of small tensors.
std::string safetensors_bytes(const std::vector<std::pair<std::string, std::vector<std::int64_t>>>& tensors,
                              at::ScalarType type) {
  std::vector<std::pair<std::string, at::Tensor>> named;
  for (const auto& [name, shape] : tensors) named.emplace_back(name, at::zeros(shape, type));
  const auto path = input_file("seed/model.safetensors", "");
  write_safetensors(path, named);
  return read_file(path);
}

std::vector<std::string> safetensors_seeds() {
  std::vector<std::string> seeds;
  for (const auto type : {at::kFloat, at::kBFloat16, at::kLong, at::kBool, at::kHalf, at::kDouble})
    seeds.push_back(safetensors_bytes({{"a.weight", {2, 3}}, {"b", {4}}, {"scalar", {}}, {"empty", {0, 7}}}, type));
  return seeds;
}

void run_safetensors(std::string_view input) {
  for (const auto& [name, tensor] : read_safetensors(input_file("safetensors/model.safetensors", input))) {
    promise(tensor.nbytes() <= input.size(), "a tensor larger than its file");
    // Touches all of it.
    if (tensor.numel() > 0) tensor.to(at::kDouble).sum().item<double>();
  }
}

const Registration kSafetensors({"safetensors",
                                 run_safetensors,
                                 safetensors_seeds,
                                 {"__metadata__", "dtype", "shape", "data_offsets", "F32", "BF16", "F8_E4M3",
                                  "9223372036854775808"}});

std::vector<Json> tiny_configs() {
  std::vector<Json> all;
  for (const char* type : {"llama", "mistral", "qwen2", "qwen3"}) all.push_back(tiny_config(type));
  all[0]["attention_bias"] = true;
  all[1]["sliding_window"] = 8;
  all[2]["use_sliding_window"] = false;
  all[3]["head_dim"] = 4;
  Json scaled = tiny_config("llama");
  scaled["rope_scaling"] = {{"rope_type", "llama3"},
                            {"factor", 8.0},
                            {"low_freq_factor", 1.0},
                            {"high_freq_factor", 4.0},
                            {"original_max_position_embeddings", 8}};
  all.push_back(scaled);
  scaled["rope_scaling"] = {{"type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 4}};
  all.push_back(scaled);
  scaled.erase("rope_scaling");
  scaled["rope_parameters"] = {{"rope_type", "linear"}, {"factor", 2.0}, {"rope_theta", 500.0}};
  all.push_back(scaled);
  Json latent = tiny_config("mlaforge");
  latent["source_model_type"] = "llama";
  latent["source_architectures"] = {"LlamaForCausalLM"};
  latent["latent_attention"] = {{"format", 1},
                                {"layers",
                                 {{{"kept_pairs", {{0}}},
                                   {"content_width", 0},
                                   {"value_width", 2},
                                   {"latent_width", 2},
                                   {"key_slice", {0, 0}},
                                   {"value_slice", {0, 2}},
                                   {"key_up", true},
                                   {"value_up", true}}}}};
  all.push_back(latent);
  return all;
}

/// Others' latent attention: a latent of 3 and a rotated key of 2 for both heads.
Json tiny_deepseek_config() {
  Json config = tiny_config("deepseek_v3");
  config["architectures"] = {"DeepseekV3ForCausalLM"};
  config["kv_lora_rank"] = 3;
  config["q_lora_rank"] = nullptr;
  for (const char* key : {"qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim"}) config[key] = 2;
  config["num_key_value_heads"] = 2;
  config["first_k_dense_replace"] = 1;
  config["tie_word_embeddings"] = true;
  return config;
}

/// Of each family, as tests/model/families has them; and of what others call latent attention.
std::vector<std::string> model_config_seeds() {
  std::vector<std::string> seeds;
  for (const Json& config : tiny_configs()) seeds.push_back(config.dump());
  for (const auto& entry : std::filesystem::directory_iterator(MLA_SOURCE_DIR "/tests/model/families")) {
    if (entry.path().extension() == ".json") seeds.push_back(read_json(entry.path()).at("config").dump());
  }
  Json deepseek = tiny_deepseek_config();
  seeds.push_back(deepseek.dump());
  deepseek["qk_rope_head_dim"] = 4;
  deepseek["rope_parameters"] = {{"rope_type", "longrope"},
                                 {"rope_theta", 10000.0},
                                 {"attention_factor", 1.0},
                                 {"short_factor", {1.0, 0.1}},
                                 {"long_factor", {1.0, 0.1}}};
  seeds.push_back(deepseek.dump());
  return seeds;
}

const std::vector<std::string>& model_config_words() {
  static const std::vector<std::string> words = {"model_type",
                                                 "llama",
                                                 "mistral",
                                                 "qwen2",
                                                 "qwen3",
                                                 "mlaforge",
                                                 "rope_scaling",
                                                 "rope_parameters",
                                                 "rope_type",
                                                 "yarn",
                                                 "llama3",
                                                 "dynamic",
                                                 "linear",
                                                 "factor",
                                                 "original_max_position_embeddings",
                                                 "attention_factor",
                                                 "beta_fast",
                                                 "beta_slow",
                                                 "mscale",
                                                 "head_dim",
                                                 "sliding_window",
                                                 "layer_types",
                                                 "max_window_layers",
                                                 "num_hidden_layers",
                                                 "latent_attention",
                                                 "layers",
                                                 "vocab_size",
                                                 "partial_rotary_factor",
                                                 "quantization_config",
                                                 "tie_word_embeddings",
                                                 "eos_token_id",
                                                 "smollm3",
                                                 "olmo2",
                                                 "phi3",
                                                 "gemma2",
                                                 "gemma3_text",
                                                 "no_rope_layers",
                                                 "attn_logit_softcapping",
                                                 "query_pre_attn_scalar",
                                                 "deepseek_v3",
                                                 "kv_lora_rank",
                                                 "q_lora_rank",
                                                 "first_k_dense_replace",
                                                 "longrope",
                                                 "short_factor",
                                                 "qk_latent_layernorm"};
  return words;
}

/// The shapes of attention that config.json describes, without weights.
void run_model_config(std::string_view input) {
  const auto path = input_file("config_json/config.json", input);
  const ModelSpec spec = load_spec(path.parent_path());
  promise(spec.layer_count() > 0 && spec.hidden > 0 && spec.rope_dim > 0 && spec.vocabulary > 0, "an empty model");
  promise(count_parameters(spec).total() > 0 && cached_elements(spec) >= 0, "sizes that wrap");
  const Json written = write_model_config(spec, read_json(path), "config.json");
  promise(read_model_config(written, "config.json").layers == spec.layers, "a config that says something else");
}

const Registration kModelConfig({"config_json", run_model_config, model_config_seeds, model_config_words()});

std::vector<std::pair<std::string, std::vector<std::int64_t>>> tiny_tensors() {
  const std::string layer = "model.layers.0.";
  return {{"model.embed_tokens.weight", {5, 4}},       {"model.norm.weight", {4}},
          {layer + "input_layernorm.weight", {4}},     {layer + "post_attention_layernorm.weight", {4}},
          {layer + "self_attn.q_proj.weight", {4, 4}}, {layer + "self_attn.k_proj.weight", {2, 4}},
          {layer + "self_attn.v_proj.weight", {2, 4}}, {layer + "self_attn.o_proj.weight", {4, 4}},
          {layer + "mlp.gate_proj.weight", {6, 4}},    {layer + "mlp.up_proj.weight", {6, 4}},
          {layer + "mlp.down_proj.weight", {4, 6}}};
}

std::vector<std::pair<std::string, std::vector<std::int64_t>>> deepseek_tensors() {
  auto tensors = tiny_tensors();
  const std::string attention = "model.layers.0.self_attn.";
  std::erase_if(tensors, [&](const auto& tensor) {
    return tensor.first == attention + "k_proj.weight" || tensor.first == attention + "v_proj.weight";
  });
  for (auto& [name, shape] : tensors) {
    if (name == attention + "q_proj.weight") shape = {8, 4};
  }
  tensors.push_back({attention + "kv_a_proj_with_mqa.weight", {5, 4}});
  tensors.push_back({attention + "kv_a_layernorm.weight", {3}});
  tensors.push_back({attention + "kv_b_proj.weight", {8, 3}});
  return tensors;
}

/// config.json, generation_config.json and the weights of a folder.
std::vector<std::string> model_folder_seeds() {
  const std::string weights = safetensors_bytes(tiny_tensors(), at::kFloat);
  const std::string generation = R"({"eos_token_id": [2, 3], "temperature": 0.6, "do_sample": true})";
  return {join_parts({tiny_config("llama").dump(), generation, weights}),
          join_parts({tiny_deepseek_config().dump(), generation, safetensors_bytes(deepseek_tensors(), at::kFloat)})};
}

void run_model_folder(std::string_view input) {
  const auto parts = parts_of(input, 3);
  input_file("model/config.json", parts[0]);
  input_file("model/generation_config.json", parts[1]);
  const auto path = input_file("model/model.safetensors", parts[2]);
  load_checkpoint(path.parent_path());
}

const Registration kModelFolder({"model_folder", run_model_folder, model_folder_seeds, model_config_words()});

/// The index beside two shards, the second of which is the input's too.
std::vector<std::string> index_seeds() {
  const auto tensors = tiny_tensors();
  Json map = Json::object();
  for (std::size_t i = 0; i < tensors.size(); ++i)
    map[tensors[i].first] = cat("model-0000", i < 6 ? 1 : 2, "-of-00002.safetensors");
  const Json index = {{"metadata", {{"total_size", 500}}}, {"weight_map", map}};
  const std::vector shard(tensors.begin() + 6, tensors.end());
  return {join_parts({index.dump(), safetensors_bytes(shard, at::kFloat)})};
}

void run_index(std::string_view input) {
  const auto parts = parts_of(input, 2);
  static const std::string config = tiny_config("llama").dump(), first = [] {
    const auto tensors = tiny_tensors();
    return safetensors_bytes({tensors.begin(), tensors.begin() + 6}, at::kFloat);
  }();
  input_file("index/config.json", config);
  input_file("index/model-00001-of-00002.safetensors", first);
  input_file("index/model-00002-of-00002.safetensors", parts[1]);
  const auto path = input_file("index/model.safetensors.index.json", parts[0]);
  load_checkpoint(path.parent_path());
}

const Registration kIndex({"index",
                           run_index,
                           index_seeds,
                           {"weight_map", "metadata", "model-00001-of-00002.safetensors", "../", "/dev/null",
                            "model.norm.weight"}});

std::vector<std::string> llama2c_seeds() {
  std::vector<std::string> seeds;
  for (const std::int32_t vocabulary : {5, -5}) {
    const std::int32_t header[] = {4, 6, 1, 2, 1, vocabulary, 8};
    const std::size_t hidden = 4, inner = 6, kv = 2, words = 5;
    std::size_t floats =
        words * hidden + 2 * hidden + 2 * hidden * hidden + 2 * hidden * kv + 3 * hidden * inner + hidden + 2 * 8 * 1;
    if (vocabulary < 0) floats += words * hidden;
    std::string file(reinterpret_cast<const char*>(header), sizeof header);
    file.resize(file.size() + 4 * floats, '\0');
    seeds.push_back(file);
  }
  return seeds;
}

void run_llama2c(std::string_view input) { load_checkpoint(input_file("llama2c_weights/model.bin", input)); }

const Registration kLlama2c({"llama2c_weights", run_llama2c, llama2c_seeds});

}  // namespace
}  // namespace mla::fuzz
