// A Hugging Face folder of model type deepseek_v3, all of whose layers are dense.
#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <memory>
#include <utility>

#include "core/base/error.h"
#include "core/model/companions.h"
#include "core/model/save_in_shards.h"
#include "core/model/weight_files.h"
#include "core/serve/deepseek_form.h"
#include "core/serve/export_format.h"
#include "core/serve/served_folder.h"

namespace mla {
namespace {

namespace fs = std::filesystem;

constexpr const char* kWhere = "--format deepseek_v3";
constexpr FormPadding kFavouriteSizes{512, 64};
/// Of the norm's effect on the latent, relative: more of it is told.
constexpr double kWorthTelling = 1e-6;

at::ScalarType scalar_type(const std::string& name) {
  return name == "bfloat16" ? at::kBFloat16 : name == "float16" ? at::kHalf : at::kFloat;
}

/// The rotary settings as transformers 5 reads them.
Json rope_json(const RopeLadder& rope, std::int64_t max_positions) {
  Json settings = {{"rope_type", "default"}, {"rope_theta", rope.theta}};
  if (rope.form == RopeForm::kLinear) {
    settings["rope_type"] = "linear";
    settings["factor"] = rope.factor;
  }
  if (rope.form == RopeForm::kListed) {
    settings["rope_type"] = "longrope";
    settings["short_factor"] = settings["long_factor"] = rope.divisors;
    settings["factor"] = 1.0;
    settings["attention_factor"] = 1.0;
    settings["original_max_position_embeddings"] = max_positions;
  }
  return settings;
}

/// Keys that are read although no layer has experts.
Json expert_keys(const DeepSeekSizes& sizes) {
  return {{"first_k_dense_replace", sizes.layers},
          {"n_routed_experts", 8},
          {"n_shared_experts", 1},
          {"num_experts_per_tok", 1},
          {"n_group", 1},
          {"topk_group", 1},
          {"moe_intermediate_size", sizes.intermediate},
          {"moe_layer_freq", 1},
          {"num_nextn_predict_layers", 0}};
}

Json config_of(const DeepSeekForm& form, const Checkpoint& model, const std::string& dtype) {
  const DeepSeekSizes& sizes = form.sizes();
  Json config = {{"architectures", {kDeepSeekClass}},
                 {"model_type", kDeepSeekType},
                 {"vocab_size", sizes.vocabulary},
                 {"hidden_size", sizes.hidden},
                 {"intermediate_size", sizes.intermediate},
                 {"num_hidden_layers", sizes.layers},
                 {"num_attention_heads", sizes.heads},
                 {"num_key_value_heads", sizes.heads},
                 {"q_lora_rank", sizes.query_bias ? Json(sizes.heads * sizes.query_width()) : Json()},
                 {"kv_lora_rank", sizes.latent},
                 {"qk_rope_head_dim", sizes.rotated},
                 {"qk_nope_head_dim", sizes.content},
                 {"v_head_dim", sizes.value},
                 {"attention_bias", sizes.has_bias()},
                 {"hidden_act", "silu"},
                 {"max_position_embeddings", sizes.max_positions},
                 {"rms_norm_eps", form.epsilon()},
                 {"rope_interleave", true},
                 {"rope_theta", form.rope().theta},
                 {"rope_parameters", rope_json(form.rope(), sizes.max_positions)},
                 {"tie_word_embeddings", false},
                 {"dtype", dtype},
                 {"torch_dtype", dtype}};
  config["rope_scaling"] = form.rope().form == RopeForm::kLadder ? Json() : config["rope_parameters"];
  config.update(expert_keys(sizes));
  const ModelSpec& spec = form.spec();
  if (spec.bos) config["bos_token_id"] = *spec.bos;
  if (spec.eos) config["eos_token_id"] = *spec.eos;
  for (const char* key : {"bos_token_id", "eos_token_id", "pad_token_id"}) {
    if (model.config.contains(key)) config[key] = model.config.at(key);
  }
  return config;
}

/// The tensors of a folder, in their order: sizes first, values when they are written.
class FolderTensors {
 public:
  FolderTensors(const DeepSeekForm& form, at::ScalarType type)
      : form_(form), type_(type), layers_(std::make_shared<DeepSeekLayers>(form)) {}

  std::vector<TensorSource> all() {
    const DeepSeekSizes& sizes = form_.sizes();
    const DeepSeekForm* form = &form_;
    add("model.embed_tokens.weight", {sizes.vocabulary, sizes.hidden}, [form] { return form->embedding(); });
    for (std::int64_t i = 0; i < sizes.layers; ++i) add_layer(i);
    add("model.norm.weight", {sizes.hidden}, [form] { return form->final_norm(); });
    add("lm_head.weight", {sizes.vocabulary, sizes.hidden}, [form] { return form->lm_head(); });
    return std::move(tensors_);
  }

 private:
  using Make = std::function<at::Tensor()>;

  void add(const std::string& name, std::vector<std::int64_t> shape, Make make) {
    tensors_.push_back(
        {name, type_, std::move(shape), [make = std::move(make), type = type_] { return make().to(type); }});
  }
  Make part(std::int64_t layer, at::Tensor DeepSeekLayer::*member) const {
    return [layers = layers_, layer, member] { return layers->at(layer).*member; };
  }

  void add_layer(std::int64_t layer) {
    const std::int64_t hidden = form_.sizes().hidden, width = form_.sizes().intermediate;
    const std::string prefix = cat("model.layers.", layer, ".");
    add(prefix + "input_layernorm.weight", {hidden}, part(layer, &DeepSeekLayer::input_norm));
    add_attention(layer, prefix + "self_attn.");
    add(prefix + "post_attention_layernorm.weight", {hidden}, part(layer, &DeepSeekLayer::mlp_norm));
    add(prefix + "mlp.gate_proj.weight", {width, hidden}, part(layer, &DeepSeekLayer::gate));
    add(prefix + "mlp.up_proj.weight", {width, hidden}, part(layer, &DeepSeekLayer::up));
    add(prefix + "mlp.down_proj.weight", {hidden, width}, part(layer, &DeepSeekLayer::down));
  }

  void add_attention(std::int64_t layer, const std::string& prefix) {
    const DeepSeekSizes& sizes = form_.sizes();
    const std::int64_t hidden = sizes.hidden, heads = sizes.heads, queries = heads * sizes.query_width();
    if (sizes.query_bias) {
      add_biased_query(layer, prefix, queries);
    } else {
      add(prefix + "q_proj.weight", {queries, hidden}, part(layer, &DeepSeekLayer::query));
    }
    add(prefix + "kv_a_proj_with_mqa.weight", {sizes.cached(), hidden}, part(layer, &DeepSeekLayer::kv_a));
    add_bias(layer, prefix + "kv_a_proj_with_mqa.bias", sizes.cached(), &DeepSeekLayer::kv_a_bias);
    add(prefix + "kv_a_layernorm.weight", {sizes.latent}, part(layer, &DeepSeekLayer::kv_a_norm));
    add(prefix + "kv_b_proj.weight", {heads * (sizes.content + sizes.value), sizes.latent},
        part(layer, &DeepSeekLayer::kv_b));
    add(prefix + "o_proj.weight", {hidden, heads * sizes.value}, part(layer, &DeepSeekLayer::output));
    add_bias(layer, prefix + "o_proj.bias", hidden, &DeepSeekLayer::output_bias);
  }

  /// Where one projection has a bias, the class wants one of each.
  void add_bias(std::int64_t layer, const std::string& name, std::int64_t rows, at::Tensor DeepSeekLayer::*member) {
    if (!form_.sizes().has_bias()) return;
    add(name, {rows}, [make = part(layer, member), rows] {
      const at::Tensor bias = make();
      return bias.defined() ? bias : at::zeros({rows}, at::kFloat);
    });
  }

  /// There is no place for a bias of queries but behind a low rank's first map: the whole query stands there, the norm
  /// behind it is made the identity as that of the latent is, and the second map is one.
  void add_biased_query(std::int64_t layer, const std::string& prefix, std::int64_t rows) {
    const auto layers = layers_;
    const auto shrunk = [layers, layer](at::Tensor DeepSeekLayer::*member) {
      return [layers, layer, member] {
        const DeepSeekLayer& held = layers->at(layer);
        return held.*member * query_norm(held).latent;
      };
    };
    add(prefix + "q_a_proj.weight", {rows, form_.sizes().hidden}, shrunk(&DeepSeekLayer::query));
    add(prefix + "q_a_proj.bias", {rows}, shrunk(&DeepSeekLayer::query_bias));
    add(prefix + "q_a_layernorm.weight", {rows},
        [layers, layer, rows] { return at::full({rows}, query_norm(layers->at(layer)).weight(), at::kFloat); });
    add(prefix + "q_b_proj.weight", {rows, rows}, [rows] { return at::eye(rows, at::kFloat); });
  }

  static IdentityNorm query_norm(const DeepSeekLayer& layer) {
    const std::int64_t rows = layer.query.size(0), hidden = layer.query.size(1);
    const double share = static_cast<double>(hidden) / static_cast<double>(rows);
    const double bound = (layer.query * layer.input_norm).norm().item<double>() * std::sqrt(share) +
                         layer.query_bias.norm().item<double>() / std::sqrt(static_cast<double>(rows));
    return identity_norm(kLatentEpsilon, kLatentEpsilon, bound, false, 0);
  }

  const DeepSeekForm& form_;
  at::ScalarType type_;
  std::shared_ptr<DeepSeekLayers> layers_;
  std::vector<TensorSource> tensors_;
};

/// generate() of transformers ends where this file says.
void write_generation_config(const ModelSpec& spec, const fs::path& folder) {
  const fs::path path = folder / "generation_config.json";
  if (fs::exists(path)) return;  // the model's own
  Json config = {{"_from_model_config", true}};
  if (spec.bos) config["bos_token_id"] = *spec.bos;
  if (!spec.ends.empty()) config["eos_token_id"] = spec.ends.size() == 1 ? Json(spec.ends.front()) : Json(spec.ends);
  write_json(path, config);
}

std::vector<std::string> loading_lines(const std::string& dtype) {
  return {"- transformers >= 5: `AutoModelForCausalLM.from_pretrained(FOLDER, dtype=\"auto\")`, no flag, no code",
          cat("- vLLM: `vllm serve FOLDER --attention-backend TRITON_MLA --dtype ",
              dtype == "float32" ? "bfloat16" : dtype, "`"),
          "- SGLang: `python -m sglang.launch_server --model-path FOLDER --attention-backend triton`",
          "- llama.cpp: `mlaforge export --format gguf` writes its file",
          "- MLX: `mlx_lm.generate --model FOLDER --prompt …`"};
}

class DeepSeekV3Format final : public ExportFormat {
 public:
  explicit DeepSeekV3Format(Options) {}

  std::vector<std::string> types() const override { return {"float32", "bfloat16", "float16"}; }

  ExportReport write(const Checkpoint& model, const ExportRequest& request, const fs::path& folder) const override {
    DeepSeekForm form(model.decoder, request.pad ? kFavouriteSizes : FormPadding{}, kWhere);
    const bool narrow = request.dtype == "float16";
    if (narrow && form.sizes().query_bias)
      throw ConfigError(cat("--dtype float16: biases of queries go through a norm whose input vanishes in it; ",
                            "--dtype bfloat16 or float32 holds them"));
    const double bound = request.measured_latent.value_or(form.largest_latent());
    form.set_norm(identity_norm(form.spec().norm_epsilon, kLatentEpsilon, narrow ? bound : form.largest_latent(),
                                narrow, narrow ? form.largest_query() : 0));
    write_weight_files(folder, FolderTensors(form, scalar_type(request.dtype)).all(), kShardBytes, [] {});
    copy_companions(model.source, folder);
    write_generation_config(form.spec(), folder);
    write_json(folder / "config.json", config_of(form, model, request.dtype));
    return report(form, request, folder, bound);
  }

 private:
  static ExportReport report(const DeepSeekForm& form, const ExportRequest& request, const fs::path& folder,
                             double largest) {
    const DeepSeekSizes& sizes = form.sizes();
    const ServedFolder written = open_served_folder(folder);
    ExportReport report;
    report.cached_values = sizes.cached();
    report.engines = judge_folder(written);
    const double error = form.norm()->error(largest);
    report.details = {{"kv_lora_rank", sizes.latent},
                      {"qk_rope_head_dim", sizes.rotated},
                      {"qk_nope_head_dim", sizes.content},
                      {"v_head_dim", sizes.value},
                      {"rope", written.config.at("rope_parameters").at("rope_type")},
                      {"rope_theta", form.rope().theta},
                      {"latent_norm_error", error},
                      {"latent_size", request.measured_latent ? "measured" : "bound"},
                      {"residual_scale", form.norm()->residual}};
    if (error > kWorthTelling)
      report.notes.push_back(cat("the norm on the latent changes it by up to ", error, " of its size",
                                 request.measured_latent ? "" : " (a bound; --calibration measures it)",
                                 ": --dtype bfloat16 or float32 leave it as it is"));
    if (form.norm()->residual != 1)
      report.notes.push_back(cat("the residual stream is scaled by ", form.norm()->residual, " and rms_norm_eps ",
                                 form.spec().norm_epsilon, " written as ", kLatentEpsilon,
                                 ", so that engines agree on the latent's norm; nothing else changes"));
    report.how_to_load = loading_lines(request.dtype);
    return report;
  }
};

const Registration<ExportFormat, DeepSeekV3Format> kDeepSeekV3Format(
    "deepseek_v3", "a Hugging Face folder that transformers, vLLM, SGLang and MLX load by a class of their own");

}  // namespace
}  // namespace mla
