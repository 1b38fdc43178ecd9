#include <ATen/ATen.h>

#include <algorithm>

#include "core/base/registry.h"
#include "core/compress/calibration/layer_information.h"
#include "experiments/conformance/related_cases.h"
#include "experiments/conformance/result_json.h"

namespace mla {
namespace {

constexpr double kOwnTolerance = 1e-6, kAuthorsTolerance = 1e-3;  // of a column's largest entry
constexpr double kEntropyTolerance = 1e-6, kSimilarityShare = 0.03, kRatioTolerance = 1e-9;
constexpr double kMergeTolerance = 1e-6, kFloatLossTolerance = 1e-5;

LayerInformationOptions options_of(const Json& json, const std::string& where) {
  LayerInformationOptions options;
  const auto count = [&](const char* key, std::int64_t& value) {
    if (expected::has(json, key)) value = expected::whole_number(json, key, 1, 1 << 20, where);
  };
  if (expected::has(json, "sigma")) options.sigma = expected::number(json, "sigma", where);
  if (expected::has(json, "alpha")) options.alpha = expected::number(json, "alpha", where);
  count("d", options.dims);
  count("n_neighbors", options.neighbours);
  count("k_entropy", options.entropy_neighbours);
  return options;
}

/// Columns with the sign that makes them most like those wanted.
at::Tensor signed_like(const at::Tensor& found, const at::Tensor& wanted) {
  return found * (found * wanted).sum(0, true).sign();
}

/// MKA: embedding, entropy, similarity and ratios, and losses of merged models.
class MkaCases final : public RelatedSystem {
 public:
  explicit MkaCases(Options) {}

  void run(RelatedCase& one) const override {
    if (expected::has(one.json(), "sigma")) compare_map(one);
    if (one.part("similarity")) compare_similarity(one);
    if (expected::has(one.json(), "merged")) compare_merging(one);
  }

 private:
  static void compare_map(RelatedCase& one) {
    const auto points = one.part("X");
    if (!points) throw DataError(cat(one.where(), ".tensors: X, the points, is missing"));
    const DiffusionMap map = diffusion_map(*points, options_of(one.json(), one.where()));
    const std::vector<double> values = expected::numbers(one.json(), "singular_values", one.where());
    const auto shown = std::min(std::ssize(values), map.singular_values.size(0));
    one.hold("singular values", map.singular_values.narrow(0, 0, shown), at::tensor(values, at::kDouble), 1e-9);
    for (const auto& [part, limit] : {std::pair{"Y_own_fp64", kOwnTolerance}, {"Y", kAuthorsTolerance}}) {
      const auto wanted = one.part(part);
      if (!wanted) continue;
      const at::Tensor scale = wanted->abs().amax(0, true);
      one.hold(part, signed_like(map.coordinates, *wanted) / scale, *wanted / scale, limit);
    }
    const auto embedding = one.part("Y"), ranks = one.part("ranks");
    const at::Tensor ranked = coordinate_ranks(embedding ? signed_like(map.coordinates, *embedding) : map.coordinates);
    // Ranks count from 0 or from 1.
    if (ranks) one.hold("ranks", ranked - ranked.amin(0, true), *ranks - ranks->amin(0, true), 1e-12);
    for (const auto& [key, value] : one.json().items()) {
      if (key.starts_with("entropy_k"))
        one.hold(key, neighbour_entropy(ranked, std::stoll(key.substr(9))), value.get<double>(), kEntropyTolerance);
    }
  }

  /// The layers are the file's cases with points, in their order.
  static void compare_similarity(RelatedCase& one) {
    const LayerInformationOptions options = options_of(one.json(), one.where());
    std::vector<at::Tensor> ranked;
    for (const Json& other : one.file().json["cases"]) {
      if (!expected::has(other, "sigma")) continue;
      const RelatedCase layer(one.file(), other, one.where());
      ranked.push_back(coordinate_ranks(diffusion_map(*layer.part("X"), options_of(other, one.where())).coordinates));
    }
    const at::Tensor given = *one.part("similarity"), found = information_similarity(ranked, options);
    const at::Tensor mean = one.part("similarity_mean").value_or(given),
                     spread = one.part("similarity_spread").value_or(at::zeros_like(given));
    if (found.sizes() != mean.sizes()) return one.hold("similarity", found, mean, 0);
    const at::Tensor beyond = ((found - mean).abs() - spread - kSimilarityShare * mean.abs()).clamp_min(0);
    one.hold("similarity beyond spread + 3 %", beyond, at::zeros_like(beyond), 0);
    const Json& pairs = one.json().at("pairs");
    for (std::size_t i = 0; i < pairs.size(); ++i) {
      const double first = fusion_ratio(given, pairs[i].at(0).get<std::int64_t>(), pairs[i].at(1).get<std::int64_t>());
      const auto wanted = one.json().at("fusion_ratios").at(i).get<std::vector<double>>();
      one.hold(cat("fusion ratio ", pairs[i].dump()), {first, 1 - first}, wanted, kRatioTolerance);
    }
  }

  static void compare_merging(RelatedCase& one) {
    const Decoder decoder = one.decoder();
    const Json& json = one.json();
    const std::vector<std::int64_t> ids = expected::ids(json, "ids", decoder.spec().vocabulary - 1, one.where());
    one.hold_nll("base", decoder, ids, {{"mean_nll", json.at("base_mean_nll")}}, kMergeTolerance);
    for (const auto& [ratio, wanted] : json["merged"].items()) {
      const double share = std::stod(ratio);
      Decoder merged = decoder.clone();
      apply_pass(merged,
                 {{"name", "merge_layers"}, {"merge", {{{"layers", {0, 1}}, {"weights", {share, 1 - share}}}}}});
      one.hold_nll("ratio " + ratio, merged, ids, wanted, kMergeTolerance);
      if (expected::has(wanted, "logits_last_norm")) {
        const c10::InferenceMode inference;
        const double norm = merged.forward(at::tensor(ids, at::kLong).unsqueeze(0))[0][-1].norm().item<double>();
        one.hold("ratio " + ratio + " last logits", norm, wanted["logits_last_norm"].get<double>(), kMergeTolerance);
      }
    }
    if (!expected::has(json, "released_layer_fusion_mean_nll")) return;
    Decoder dropped = decoder.clone();
    apply_pass(dropped, {{"name", "mka"}, {"merges", 1}, {"choose", "last"}, {"ratio", "drop"}});
    one.hold_nll("released code", dropped, ids, {{"mean_nll", json["released_layer_fusion_mean_nll"]}},
                 kFloatLossTolerance);
  }
};

const Registration<RelatedSystem, MkaCases> kMkaCases("mka", "MKA (arXiv 2406.16330)");

}  // namespace
}  // namespace mla
