#include "core/serve/gguf_plain.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <utility>

#include "core/attention/grouped_query.h"
#include "core/base/error.h"
#include "core/model/gguf_config.h"
#include "core/model/gguf_weights.h"
#include "core/model/rotary_rows.h"
#include "core/serve/served_layout.h"

namespace mla {
namespace {

using Refusal = std::function<void(const std::string&)>;

void refuse_unlike_layers(const ModelSpec& spec, const Refusal& refuse) {
  const LayerSpec& first = spec.layers.front();
  for (std::int64_t i = 0; i < spec.layer_count(); ++i) {
    const LayerSpec& layer = spec.layers[static_cast<std::size_t>(i)];
    if (!grouped_query_heads(*layer.attention)) {
      refuse(cat("layer ", i, " has attention of the kind ", layer.attention->kind(),
                 ", which llama.cpp does not know; layers that are all `latent`, or all unconverted, can be written"));
    }
    if (!(*layer.attention == *first.attention) || !(layer.feed_forward == first.feed_forward))
      refuse(cat("layer ", i, " has other heads or another width than layer 0; files state one for all layers"));
  }
}

/// What an architecture has no tensors for.
void refuse_biases(const ModelSpec& spec, const std::string& architecture, const Refusal& refuse) {
  const HeadFields heads = *spec.layers.front().attention->heads();
  const bool input = heads.query_bias || heads.key_bias || heads.value_bias;
  const bool all_inputs = heads.query_bias && heads.key_bias && heads.value_bias;
  const bool feed_forward = spec.layers.front().feed_forward.bias;
  const bool llama = architecture == "llama" && (input ? all_inputs && heads.output_bias : !heads.output_bias);
  const bool qwen2 = architecture == "qwen2" && all_inputs && !heads.output_bias && !feed_forward;
  const bool qwen3 = architecture == "qwen3" && !input && !heads.output_bias && !feed_forward;
  if (!llama && !qwen2 && !qwen3)
    refuse(cat("llama.cpp's architecture ", architecture, " has no place for the biases of this model"));
  if (heads.qk_norm != (architecture == "qwen3"))
    refuse(cat("norms of queries and keys belong to the architecture qwen3, not to ", architecture));
}

void refuse_rotation(const ModelSpec& spec, const std::string& architecture, const Refusal& refuse) {
  const RotaryScaling& scaling = spec.rope_scaling;
  if (scaling.type == "llama3") {
    if (architecture != "llama")
      refuse(cat("rotation by Llama 3's rule is read by llama.cpp's architecture llama alone, not by ", architecture));
    return;
  }
  if (scaling.type == "yarn") {
    const bool usual = scaling.truncate && !scaling.attention_factor && !scaling.mscale && !scaling.mscale_all_dim;
    if (!usual) {
      refuse(
          "yarn with an attention factor, mscale or ends that are no whole pairs has no keys in GGUF files; plain "
          "yarn has");
    }
  }
}

void add_rotation(const ModelSpec& spec, const std::string& prefix, gguf::Writer& writer, GgufTensors& tensors) {
  const RotaryScaling& scaling = spec.rope_scaling;
  writer.number(prefix + "rope.dimension_count", static_cast<std::uint32_t>(spec.rope_dim));
  writer.number(prefix + "rope.freq_base", static_cast<float>(spec.rope_theta));
  if (scaling.type == "linear" || scaling.type == "yarn") {
    writer.text(prefix + "rope.scaling.type", scaling.type);
    writer.number(prefix + "rope.scaling.factor", static_cast<float>(scaling.factor));
  }
  if (scaling.type == "yarn") {
    writer.number(prefix + "rope.scaling.original_context_length",
                  static_cast<std::uint32_t>(scaling.original_positions));
    writer.number(prefix + "rope.scaling.yarn_beta_fast", static_cast<float>(scaling.beta_fast));
    writer.number(prefix + "rope.scaling.yarn_beta_slow", static_cast<float>(scaling.beta_slow));
  }
  if (scaling.type != "llama3") return;
  const Rotary plain(spec.rope_theta, spec.rope_dim, spec.max_positions, {}), scaled = spec.rotary();
  const std::int64_t length = spec.max_positions;
  tensors.plain(kGgufRopeFactors, {spec.rope_dim / 2}, [plain, scaled, length] {
    return (plain.frequencies(length) / scaled.frequencies(length)).to(at::kFloat);
  });
}

/// Rows of queries and keys in the order of files.
MakeTensor rows_of_file(MakeTensor source, const std::string& name, const ModelSpec& spec) {
  const bool rotated = name.find(".q_proj") != std::string::npos || name.find(".k_proj") != std::string::npos;
  if (!rotated || !has_interleaved_rows(spec.family)) return source;
  return [source = std::move(source), width = spec.rope_dim] { return to_interleaved(source(), width); };
}

void add_map(const std::string& name, const Linear& map, const ModelSpec& spec, GgufTensors& tensors) {
  const MakeTensor weight = rows_of_file([map] { return map.to_dense(); }, name, spec);
  const std::string stored = gguf_name(name + ".weight");
  const std::vector<std::int64_t> shape = {map.rows(), map.columns()};
  if (name == "model.embed_tokens" || name == "lm_head") {
    tensors.vocabulary_matrix(stored, shape, weight);
  } else {
    tensors.matrix(stored, shape, weight);
  }
  if (!map.bias().defined()) return;
  const at::Tensor bias = map.bias();
  tensors.plain(gguf_name(name + ".bias"), {map.rows()}, rows_of_file([bias] { return bias; }, name, spec));
}

}  // namespace

std::string plain_gguf_architecture(const ModelSpec& spec, const std::string& where) {
  const Refusal refuse = [&](const std::string& reason) { throw ConfigError(cat(where, ": ", reason)); };
  refuse_unlike_layers(spec, refuse);
  const std::string architecture = spec.family == "mistral" ? "llama" : spec.family;
  const std::vector<std::string> known = {"llama", "qwen2", "qwen3"};
  if (std::find(known.begin(), known.end(), architecture) == known.end())
    refuse(cat("models of the family ", spec.family, " are not written; llama, mistral, qwen2 and qwen3 are"));
  const HeadFields heads = *spec.layers.front().attention->heads();
  if (heads.window > 0 && heads.window < spec.max_positions) {
    refuse(cat("llama.cpp's architecture ", architecture, " has no sliding windows: the model's is ", heads.window,
               " tokens of ", spec.max_positions, "; with max_position_embeddings ", heads.window,
               " it could be written"));
  }
  refuse_biases(spec, architecture, refuse);
  refuse_rotation_by_length(spec, where);
  refuse_rotation(spec, architecture, refuse);
  return architecture;
}

void add_common_gguf_keys(const ModelSpec& spec, const std::string& architecture, gguf::Writer& writer) {
  const auto number = [&](const char* key, std::int64_t value) {
    writer.number(cat(architecture, ".", key), static_cast<std::uint32_t>(value));
  };
  number("vocab_size", spec.vocabulary);
  number("context_length", spec.max_positions);
  number("embedding_length", spec.hidden);
  number("block_count", spec.layer_count());
  number("feed_forward_length", spec.layers.front().feed_forward.width);
  number("attention.head_count", spec.layers.front().attention->heads()->heads);
  writer.number(architecture + ".attention.layer_norm_rms_epsilon", static_cast<float>(spec.norm_epsilon));
}

void add_plain_gguf(const Decoder& decoder, const std::string& where, gguf::Writer& writer, GgufTensors& tensors) {
  const ModelSpec& spec = decoder.spec();
  const std::string architecture = plain_gguf_architecture(spec, where), prefix = architecture + ".";
  const HeadFields heads = *spec.layers.front().attention->heads();
  add_common_gguf_keys(spec, architecture, writer);
  writer.number(prefix + "attention.head_count_kv", static_cast<std::uint32_t>(heads.kv_heads));
  writer.number(prefix + "attention.key_length", static_cast<std::uint32_t>(heads.head_dim));
  writer.number(prefix + "attention.value_length", static_cast<std::uint32_t>(heads.head_dim));
  add_rotation(spec, prefix, writer, tensors);
  // Visiting hands out references for replacement; writing replaces nothing.
  const_cast<Decoder&>(decoder).visit_weights(
      {[&](const std::string& name, Linear& map) { add_map(name, map, spec, tensors); },
       [&](const std::string& name, at::Tensor& tensor) {
         tensors.plain(gguf_name(name), tensor.sizes().vec(), [tensor] { return tensor; });
       }});
}

}  // namespace mla
