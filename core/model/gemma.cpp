// What the Gemma families share.
#include <cmath>

#include "core/model/family.h"

namespace mla {
namespace {

constexpr std::int64_t kGemmaHeadDim = 256, kGemmaKvHeads = 4;

/// A soft cap; null: none.
double read_cap(ConfigReader& config, const char* key, double otherwise) {
  const double cap = config.number_or(key, config.is_null(key) ? 0 : otherwise);
  if (cap < 0 || (config.has(key) && cap == 0)) config.refuse(key, "must be greater than 0, or null for none");
  return cap;
}

Json written_cap(double cap) { return cap > 0 ? Json(cap) : Json(); }

}  // namespace

UniformModel read_gemma(ConfigReader& config, std::int64_t max_positions, double attention_cap, double logit_cap) {
  UniformModel model = read_common_config(config, {.max_positions = max_positions,
                                                   .kv_heads = kGemmaKvHeads,
                                                   .head_dim = kGemmaHeadDim,
                                                   .tied = true,
                                                   .activation = Activation::kGeluTanh});
  model.model.norms = NormPlacement::kBoth;
  model.model.norms_add_one = true;
  model.model.embedding_scale = std::sqrt(static_cast<double>(model.model.hidden));
  model.model.logit_cap = read_cap(config, "final_logit_softcapping", logit_cap);
  HeadFields& heads = model.heads;
  heads.soft_cap = read_cap(config, "attn_logit_softcapping", attention_cap);
  config.refuse_null("query_pre_attn_scalar");
  heads.query_scalar = config.number_or("query_pre_attn_scalar", static_cast<double>(kGemmaHeadDim));
  if (!(heads.query_scalar > 0)) config.refuse("query_pre_attn_scalar", "must be greater than 0");
  heads.query_bias = config.boolean_or("attention_bias", false);
  heads.key_bias = heads.value_bias = heads.output_bias = heads.query_bias;
  if (config.boolean_or("use_bidirectional_attention", false))
    config.refuse("use_bidirectional_attention", "not supported: each token sees those before it alone");
  return model;
}

void write_gemma(const UniformModel& model, Json& config) {
  const HeadFields& heads = model.heads;
  config.erase("hidden_act");
  config["hidden_activation"] = "gelu_pytorch_tanh";
  config["attention_bias"] = heads.query_bias;
  config["query_pre_attn_scalar"] = heads.query_scalar;
  config["attn_logit_softcapping"] = written_cap(heads.soft_cap);
  config["final_logit_softcapping"] = written_cap(model.model.logit_cap);
  write_alternating_windows(model, config);
}

}  // namespace mla
