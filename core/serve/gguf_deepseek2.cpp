#include "core/serve/gguf_deepseek2.h"

#include <ATen/ATen.h>

#include <cmath>
#include <memory>
#include <utility>

#include "core/base/error.h"
#include "core/model/gguf_deepseek2.h"
#include "core/serve/gguf_plain.h"

namespace mla {
namespace {

void refuse_what_files_cannot_say(const DeepSeekForm& form, const std::string& where) {
  if (form.sizes().has_bias()) {
    throw ConfigError(cat(where,
                          ": llama.cpp's architecture deepseek2 has no biases, and the model's attention has "
                          "them; models without can be written (Llama, Mistral, Qwen 3), and deepseek_v3 folders for "
                          "transformers hold those of keys, values and outputs"));
  }
  if (form.rope().form == RopeForm::kListed || form.rope().factor < 1) {
    throw ConfigError(
        cat(where,
            ": llama.cpp computes the rotated frequencies theta^(-i/m), over one factor of 1 or more, and "
            "those of the kept pairs are others; the selections high and comb keep such a ladder"));
  }
  // A padded key goes on down the ladder of its few pairs.
  if (!std::isfinite(static_cast<float>(form.rope().theta))) {
    throw ConfigError(cat(where, ": the rotated frequencies would be those of a base of ", form.rope().theta,
                          ", more than float32 holds; leave out --pad"));
  }
}

void add_keys(const DeepSeekForm& form, gguf::Writer& writer) {
  const DeepSeekSizes& sizes = form.sizes();
  add_common_gguf_keys(form.spec(), kDeepSeek2, writer);
  const auto number = [&](const char* key, std::int64_t value) {
    writer.number(cat(kDeepSeek2, ".", key), static_cast<std::uint32_t>(value));
  };
  // All heads read one cached vector, the latent and the rotated key, as if there were a single KV head.
  number("attention.head_count_kv", 1);
  number("attention.q_lora_rank", 0);
  number("attention.kv_lora_rank", sizes.latent);
  number("attention.key_length", sizes.cached());
  number("attention.value_length", sizes.latent);
  number("attention.key_length_mla", sizes.query_width());
  number("attention.value_length_mla", sizes.value);
  number("rope.dimension_count", sizes.rotated);
  writer.number(cat(kDeepSeek2, ".rope.freq_base"), static_cast<float>(form.rope().theta));
  if (form.rope().form == RopeForm::kLinear) {
    writer.text(cat(kDeepSeek2, ".rope.scaling.type"), "linear");
    writer.number(cat(kDeepSeek2, ".rope.scaling.factor"), static_cast<float>(form.rope().factor));
  }
  number("leading_dense_block_count", sizes.layers);
  number("expert_feed_forward_length", sizes.intermediate);
  number("expert_shared_count", 0);
}

void add_layer(std::int64_t index, const DeepSeekForm& form, const std::shared_ptr<DeepSeekLayers>& source,
               GgufTensors& tensors) {
  const DeepSeekSizes& sizes = form.sizes();
  const std::int64_t heads = sizes.heads, hidden = sizes.hidden, width = sizes.intermediate;
  const auto name = [&](const char* part) { return cat("blk.", index, ".", part, ".weight"); };
  const auto part = [&](at::Tensor DeepSeekLayer::*member) {
    return [source, index, member] { return source->at(index).*member; };
  };
  const auto up = [&](std::int64_t from, std::int64_t rows, bool transposed) {
    return [source, index, from, rows, transposed, sizes] {
      const at::Tensor all = source->at(index).kv_b.view({sizes.heads, sizes.content + sizes.value, sizes.latent});
      const at::Tensor own = all.narrow(1, from, rows);
      return transposed ? own.transpose(1, 2).contiguous() : own.contiguous();
    };
  };
  tensors.plain(name("attn_norm"), {hidden}, part(&DeepSeekLayer::input_norm));
  tensors.matrix(name("attn_q"), {heads * sizes.query_width(), hidden},
                 [source, index, scale = deepseek2_logit_scale(form.rope().factor)] {
                   const at::Tensor query = source->at(index).query;
                   return scale == 1 ? query : query / scale;
                 });
  tensors.uneven_matrix(name("attn_kv_a_mqa"), {sizes.cached(), hidden}, part(&DeepSeekLayer::kv_a));
  tensors.plain(name("attn_kv_a_norm"), {sizes.latent}, part(&DeepSeekLayer::kv_a_norm));
  tensors.matrix(name("attn_k_b"), {heads, sizes.latent, sizes.content}, up(0, sizes.content, true));
  tensors.matrix(name("attn_v_b"), {heads, sizes.value, sizes.latent}, up(sizes.content, sizes.value, false));
  tensors.matrix(name("attn_output"), {hidden, heads * sizes.value}, part(&DeepSeekLayer::output));
  tensors.plain(name("ffn_norm"), {hidden}, part(&DeepSeekLayer::mlp_norm));
  tensors.matrix(name("ffn_gate"), {width, hidden}, part(&DeepSeekLayer::gate));
  tensors.matrix(name("ffn_up"), {width, hidden}, part(&DeepSeekLayer::up));
  tensors.matrix(name("ffn_down"), {hidden, width}, part(&DeepSeekLayer::down));
}

}  // namespace

void add_deepseek2_gguf(DeepSeekForm& form, double largest_latent, const std::string& where, gguf::Writer& writer,
                        GgufTensors& tensors) {
  refuse_what_files_cannot_say(form, where);
  const DeepSeekSizes& sizes = form.sizes();
  const double epsilon = form.spec().norm_epsilon;  // llama.cpp gives the latent's norm that of all others
  // Small rows are no matter in float32, which their matrix always is: nothing need be split over the norm before.
  form.set_norm(identity_norm(epsilon, epsilon, largest_latent, false, 0));
  add_keys(form, writer);
  const DeepSeekForm* source = &form;
  tensors.vocabulary_matrix("token_embd.weight", {sizes.vocabulary, sizes.hidden},
                            [source] { return source->embedding(); });
  const auto layers = std::make_shared<DeepSeekLayers>(form);
  for (std::int64_t i = 0; i < sizes.layers; ++i) add_layer(i, form, layers, tensors);
  tensors.plain("output_norm.weight", {sizes.hidden}, [source] { return source->final_norm(); });
  if (form.spec().tied_embeddings) return;
  tensors.vocabulary_matrix("output.weight", {sizes.vocabulary, sizes.hidden}, [source] { return source->lm_head(); });
}

}  // namespace mla
