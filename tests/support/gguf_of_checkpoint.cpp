#include "tests/support/gguf_of_checkpoint.h"

#include <ATen/ATen.h>

#include "core/ops/encode_blocks.h"

namespace mla::test {
namespace {

/// Names of files by Hugging Face's, written down once more.
std::string name_in_gguf(std::string name) {
  const std::vector<std::pair<std::string, std::string>> pairs = {{"model.embed_tokens", "token_embd"},
                                                                  {"model.norm", "output_norm"},
                                                                  {"lm_head", "output"},
                                                                  {"model.layers", "blk"},
                                                                  {"self_attn.q_proj", "attn_q"},
                                                                  {"self_attn.k_proj", "attn_k"},
                                                                  {"self_attn.v_proj", "attn_v"},
                                                                  {"self_attn.o_proj", "attn_output"},
                                                                  {"self_attn.q_norm", "attn_q_norm"},
                                                                  {"self_attn.k_norm", "attn_k_norm"},
                                                                  {"mlp.gate_proj", "ffn_gate"},
                                                                  {"mlp.up_proj", "ffn_up"},
                                                                  {"mlp.down_proj", "ffn_down"},
                                                                  {"input_layernorm", "attn_norm"},
                                                                  {"post_attention_layernorm", "ffn_norm"}};
  for (const auto& [ours, theirs] : pairs) {
    if (const auto at = name.find(ours); at != std::string::npos) name.replace(at, ours.size(), theirs);
  }
  return name;
}

/// Row r of `rows` by the order of files: of each head the dims 0, half, 1, half + 1, …
std::vector<float> interleaved(const at::Tensor& tensor, std::int64_t head_dim) {
  const at::Tensor rows = tensor.to(at::kFloat).reshape({tensor.size(0), -1}).contiguous();
  std::vector<float> values;
  for (std::int64_t row = 0; row < rows.size(0); ++row) {
    const std::int64_t head = row / head_dim, dim = row % head_dim;
    const at::Tensor source = rows[head * head_dim + dim / 2 + (dim % 2) * head_dim / 2];
    for (std::int64_t i = 0; i < source.numel(); ++i) values.push_back(source[i].item<float>());
  }
  return values;
}

std::vector<float> values_of(const at::Tensor& tensor) {
  const at::Tensor flat = tensor.to(at::kFloat).contiguous();
  return {flat.const_data_ptr<float>(), flat.const_data_ptr<float>() + flat.numel()};
}

}  // namespace

GgufBytes gguf_of(const Checkpoint& checkpoint, const std::string& blocks) {
  const ModelSpec& spec = checkpoint.decoder.spec();
  const HeadFields heads = *spec.attention(0).heads();
  const std::string architecture = spec.family == "mistral" ? "llama" : spec.family, prefix = architecture + ".";
  GgufBytes file;
  file.text("general.architecture", architecture);
  const auto number = [&](const std::string& key, std::int64_t value) {
    file.number(prefix + key, static_cast<std::uint32_t>(value));
  };
  number("block_count", spec.layer_count());
  number("context_length", spec.max_positions);
  number("embedding_length", spec.hidden);
  number("feed_forward_length", spec.layers[0].feed_forward.width);
  number("attention.head_count", heads.heads);
  number("attention.head_count_kv", heads.kv_heads);
  number("attention.key_length", heads.head_dim);
  number("rope.dimension_count", heads.head_dim);
  number("vocab_size", spec.vocabulary);
  if (heads.window > 0) number("attention.sliding_window", heads.window);
  file.number(prefix + "attention.layer_norm_rms_epsilon", static_cast<float>(spec.norm_epsilon));
  file.number(prefix + "rope.freq_base", static_cast<float>(spec.rope_theta));
  if (spec.rope_scaling.type == "yarn") {
    file.text(prefix + "rope.scaling.type", "yarn");
    file.number(prefix + "rope.scaling.factor", static_cast<float>(spec.rope_scaling.factor));
    number("rope.scaling.original_context_length", spec.rope_scaling.original_positions);
  }
  const_cast<Decoder&>(checkpoint.decoder).visit_parameters([&](const std::string& name, at::Tensor& tensor) {
    const bool swapped =
        architecture == "llama" && (name.find("q_proj") != name.npos || name.find("k_proj") != name.npos);
    std::vector<float> values = swapped ? interleaved(tensor, heads.head_dim) : values_of(tensor);
    if (blocks.empty() || tensor.dim() != 2 || tensor.size(1) % 32 != 0) {
      file.tensor(name_in_gguf(name), tensor.sizes().vec(), values);
      return;
    }
    const at::Tensor bytes =
        encode_blocks(*find_block_format(blocks), at::from_blob(values.data(), tensor.sizes(), at::kFloat));
    file.tensor(name_in_gguf(name), tensor.sizes().vec(), blocks == "Q8_0" ? GgufBytes::kQ8_0 : GgufBytes::kQ4_1,
                {static_cast<const char*>(bytes.const_data_ptr()), bytes.nbytes()});
  });
  return file;
}

}  // namespace mla::test
