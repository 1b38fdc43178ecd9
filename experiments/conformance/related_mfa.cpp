#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "core/base/registry.h"
#include "core/compress/layers/head_weights.h"
#include "core/model/model_config.h"
#include "experiments/conformance/related_cases.h"
#include "experiments/conformance/result_json.h"

namespace mla {
namespace {

constexpr double kExactTolerance = 1e-10;

/// The model of a case's own weights, named "w.…"; the one that cases name where it has none.
Decoder model_of(const RelatedCase& one) {
  WeightMap weights;
  const Json& named = one.json().at("tensors");
  for (const auto& [part, name] : named.items()) {
    if (part.starts_with("w.")) weights[part.substr(2)] = one.tensor(name.get<std::string>());
  }
  if (weights.empty()) return one.decoder();
  Json config = one.json().at("config");
  config["model_type"] = "llama";
  return build_decoder(read_model_config(config, one.where()), std::move(weights), one.where(),
                       {.placement = Placement::in(at::kDouble)});
}

/// The parameters of a layer as published, with queries made of as many elements as the key is wide.
std::int64_t published_parameters(const ModelSpec& spec, std::int64_t heads, std::int64_t width) {
  HeadFields fields;
  fields.heads = heads;
  fields.kv_heads = 1;
  fields.head_dim = width;
  Json json = write_fields(fields);
  json["query_rank"] = width;
  return attention_of_kind("mfa", json)->parameter_count(spec);
}

/// MFA: grouped-query attention embedded in it exactly, in logits, in attention alone and when decoding, and what a
/// layer holds and caches, with key reuse and without.
class MfaCases final : public RelatedSystem {
 public:
  explicit MfaCases(Options) {}

  void run(RelatedCase& one) const override {
    const Decoder source = model_of(one);
    const std::int64_t width = expected::whole_number(one.json(), "C", 1, 1 << 20, one.where());
    const std::int64_t heads = expected::whole_number(one.json(), "heads", 1, 1 << 16, one.where());
    for (const auto& [name, pass] :
         {std::pair<const char*, Json>{"mfa", {{"name", "mfa"}, {"width", width}, {"metric", "weights"}}},
          {"mfa_kr", {{"name", "mfa_kr"}}}}) {
      Decoder decoder = source.clone();
      apply_pass(decoder, pass);
      compare(one, decoder, cat(name, " "));
    }
    compare_counts(one, source, heads, width);
  }

 private:
  static void compare(RelatedCase& one, const Decoder& decoder, const std::string& pass) {
    const std::vector<std::int64_t> list = expected::ids(one.json(), "ids", decoder.spec().vocabulary - 1, one.where());
    const c10::InferenceMode inference;
    const at::Tensor ids = at::tensor(list, at::kLong).unsqueeze(0);
    if (const auto wanted = one.part("logits_last")) {
      one.hold(pass + "last logits", decoder.forward(ids)[0][-1], wanted->flatten(), kExactTolerance);
      DecoderCache cache = decoder.make_cache(1);
      at::Tensor last;
      for (std::int64_t i = 0; i < ids.size(1); ++i) last = decoder.forward_cached(ids.narrow(1, i, 1), cache);
      one.hold(pass + "last logits, decoding", last[0], wanted->flatten(), kExactTolerance);
    }
    const auto input = one.part("attn_in_l0"), output = one.part("attn_out_l0");
    if (!input || !output) return;
    ForwardContext context = decoder.context(input->size(0));
    const at::Tensor found = decoder.layers[0].attention->forward(input->unsqueeze(0), context)[0];
    one.hold(pass + "attention", found, *output, kExactTolerance);
  }

  static void compare_counts(RelatedCase& one, const Decoder& source, std::int64_t heads, std::int64_t width) {
    const auto whole = [&](const char* key) { return expected::number(one.json(), key, one.where()); };
    one.hold("parameters of a layer", static_cast<double>(published_parameters(source.spec(), heads, width)),
             whole("mfa_params_per_layer"), 0);
    for (const auto& [pass, key] :
         {std::pair{"mfa", "cache_elements_per_token_layer"}, {"mfa_kr", "cache_elements_kr"}}) {
      Decoder decoder = source.clone();
      apply_pass(decoder, {{"name", pass}, {"width", width}, {"metric", "weights"}});
      one.hold(key, static_cast<double>(cached_elements(decoder.spec().attention(0))), whole(key), 0);
    }
  }
};

const Registration<RelatedSystem, MfaCases> kMfaCases("mfa", "MFA and MFA-KR (arXiv 2412.19255)");

}  // namespace
}  // namespace mla
