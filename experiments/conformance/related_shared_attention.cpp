#include <ATen/ATen.h>

#include "core/base/registry.h"
#include "core/model/model_config.h"
#include "experiments/conformance/related_cases.h"
#include "experiments/conformance/result_json.h"

namespace mla {
namespace {

constexpr double kLogitTolerance = 1e-9, kMeanTolerance = 1e-9, kDecodeTolerance = 1e-9;
/// The small real model's weights are float32, its golden logits sums in another order.
constexpr double kRealTolerance = 1e-8;

/// The random model that several cases share: its tensors begin with what the case's id begins with.
Decoder random_model(const RelatedCase& one) {
  Json config = one.json().at("config");
  config["model_type"] = "llama";
  const std::string prefix = one.id().substr(0, one.id().find("_span")) + ".";
  WeightMap weights;
  for (const auto& [name, tensor] : one.file().tensors) {
    if (name.starts_with(prefix)) weights[name.substr(prefix.size())] = tensor;
  }
  return build_decoder(read_model_config(config, one.where()), std::move(weights), one.where(),
                       {.placement = Placement::in(at::kDouble)});
}

/// Logits of all positions, each token fed by itself.
at::Tensor decoded(const Decoder& decoder, const at::Tensor& ids) {
  DecoderCache cache = decoder.make_cache(1);
  std::vector<at::Tensor> rows;
  for (std::int64_t i = 0; i < ids.size(1); ++i) rows.push_back(decoder.forward_cached(ids.narrow(1, i, 1), cache));
  return at::cat(rows);
}

/// Shared Attention: logits of spans, the same when decoding, and what is saved.
class SharedAttentionCases final : public RelatedSystem {
 public:
  explicit SharedAttentionCases(Options) {}

  void run(RelatedCase& one) const override {
    const Json& json = one.json();
    Decoder decoder = expected::has(json, "config") ? random_model(one) : one.decoder();
    const double limit = expected::has(json, "config") ? kLogitTolerance : kRealTolerance;
    const std::int64_t before = cached_elements(decoder.spec());
    const std::vector<std::int64_t> span = expected::ids(json, "span", decoder.spec().layer_count() - 1, one.where());
    Json pass = {{"name", "shared_attention"}, {"layers", span}};
    if (span.empty()) pass["count"] = 0;
    apply_pass(decoder, pass);
    const std::vector<std::int64_t> list = expected::ids(json, "ids", decoder.spec().vocabulary - 1, one.where());
    const c10::InferenceMode inference;
    const at::Tensor ids = at::tensor(list, at::kLong).unsqueeze(0), logits = decoder.forward(ids)[0];
    if (const auto wanted = one.part("logits")) one.hold("logits", logits, *wanted, limit);
    if (const auto wanted = one.part("logits_last")) one.hold("last logits", logits[-1], wanted->flatten(), limit);
    Json losses = {{"mean_nll", json.at("mean_nll")}};
    if (expected::has(json, "nll")) losses["nll"] = json["nll"];
    one.hold_nll("nll", decoder, list, losses, expected::has(json, "config") ? kMeanTolerance : kRealTolerance);
    if (expected::has(json, "kv_saving")) {
      const double saved = 1 - static_cast<double>(cached_elements(decoder.spec())) / static_cast<double>(before);
      one.hold("kv_saving", saved, expected::number(json, "kv_saving", one.where()), 1e-12);
    }
    one.hold("decoding", decoded(decoder, ids), logits, kDecodeTolerance);
  }
};

const Registration<RelatedSystem, SharedAttentionCases> kSharedAttentionCases("shared_attention",
                                                                              "Shared Attention (arXiv 2407.12866)");

}  // namespace
}  // namespace mla
