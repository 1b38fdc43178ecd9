#include <ATen/ATen.h>

#include "core/base/registry.h"
#include "core/compress/layers/head_directions.h"
#include "core/compress/layers/head_weights.h"
#include "experiments/conformance/related_cases.h"
#include "experiments/conformance/result_json.h"

namespace mla {
namespace {

constexpr double kErrorTolerance = 1e-8, kProjectionTolerance = 1e-6, kEigenvalueTolerance = 1e-8;
constexpr double kNllTolerance = 1e-6;

const Requirement kRotated{Tap::kKeyRotated, "second_moment"}, kUnrotated{Tap::kKey, "second_moment"},
    kValues{Tap::kValue, "second_moment"};

/// The model that each list of losses in a case is of.
std::vector<std::pair<std::string, Json>> variants(std::int64_t kv_heads) {
  const auto pass = [&](const char* method, Json more) {
    Json config = {{"name", "kv_heads"}, {"kv_heads", kv_heads}, {"method", method}};
    config.update(more);
    return config;
  };
  return {{"svda", pass("calibrated", Json::object())},
          {"svdw", pass("svd", Json::object())},
          {"meanpool", pass("mean", Json::object())},
          {"svda_pre_rope_k", pass("calibrated", {{"keys", "unrotated"}})},
          {"svda_k_only", pass("calibrated", {{"parts", "keys"}})},
          {"svda_v_only", pass("calibrated", {{"parts", "values"}})},
          {"svdw_k_only", pass("svd", {{"parts", "keys"}})},
          {"svdw_v_only", pass("svd", {{"parts", "values"}})}};
}

/// KV-Heads: projections, eigenvalues and errors of every group, and losses of the models that the pass makes.
class KvHeadsCases final : public RelatedSystem {
 public:
  explicit KvHeadsCases(Options) {}

  void run(RelatedCase& one) const override {
    const Json& json = one.json();
    Decoder decoder = one.decoder();
    const std::int64_t most = decoder.spec().vocabulary - 1;
    const std::vector<std::int64_t> ids = expected::ids(json, "ids", most, one.where());
    const Requirements all{kRotated, kUnrotated, kValues};
    const TokenRowList rows{std::vector<std::int32_t>(ids.begin(), ids.end())};
    const Statistics statistics = calibrate(decoder, rows, all, {}, {});
    const std::int64_t groups = expected::whole_number(json, "groups", 1, 1 << 16, one.where());
    for (const Json& layer : json.at("layers")) compare_layer(one, decoder, statistics, layer, groups);
    compare_losses(one, decoder, ids, groups);
  }

 private:
  static void compare_layer(RelatedCase& one, const Decoder& decoder, const Statistics& statistics, const Json& wanted,
                            std::int64_t groups) {
    const std::int64_t layer =
        expected::whole_number(wanted, "layer", 0, decoder.spec().layer_count() - 1, one.where());
    const GroupedQueryAttention* attention =
        as_grouped_query(*decoder.layers[static_cast<std::size_t>(layer)].attention);
    if (!attention) throw DataError(cat(one.where(), ": the model is converted already"));
    const HeadFields& heads = attention->heads();
    const HeadWeights weights = head_weights(*attention);
    const GroupDirections mean = mean_directions(heads.kv_heads / groups, heads.head_dim);
    std::map<std::string, std::vector<double>> found;
    for (std::int64_t group = 0; group < groups; ++group) {
      const auto moment = [&](const Requirement& requirement) {
        return group_block(statistics.at(requirement, layer), group, groups);
      };
      const auto by_weights = [&](const at::Tensor& matrix) {
        return leading_directions(group_block(at::mm(matrix, matrix.t()), group, groups), heads.head_dim).basis;
      };
      const at::Tensor rotated = moment(kRotated), unrotated = moment(kUnrotated), values = moment(kValues);
      const GroupDirections key = leading_directions(rotated, heads.head_dim),
                            value = leading_directions(values, heads.head_dim);
      const at::Tensor key_weights = by_weights(weights.key);
      found["k_svda"].push_back(projection_error(rotated, key.basis));
      found["v_svda"].push_back(projection_error(values, value.basis));
      found["k_svda_pre"].push_back(projection_error(unrotated, leading_directions(unrotated, heads.head_dim).basis));
      found["k_svdw"].push_back(projection_error(unrotated, key_weights));
      found["k_svdw_post"].push_back(projection_error(rotated, key_weights));
      found["v_svdw"].push_back(projection_error(values, by_weights(weights.value)));
      found["k_mean"].push_back(projection_error(unrotated, mean.basis));
      found["v_mean"].push_back(projection_error(values, mean.basis));
      found["k_dropped_eig_fraction"].push_back(dropped(key, heads.head_dim));
      found["v_dropped_eig_fraction"].push_back(dropped(value, heads.head_dim));
      compare_directions(one, cat("k", layer, group), key, statistics.tokens);
      compare_directions(one, cat("v", layer, group), value, statistics.tokens);
    }
    for (const auto& [what, numbers] : found) {
      if (expected::has(wanted, what))
        one.hold(cat("layer ", layer, " ", what), numbers, expected::numbers(wanted, what, one.where()),
                 kErrorTolerance);
    }
  }

  static double dropped(const GroupDirections& directions, std::int64_t width) {
    const at::Tensor& all = directions.values;
    return (all.narrow(0, width, all.size(0) - width).sum() / all.sum()).item<double>();
  }

  static void compare_directions(RelatedCase& one, const std::string& part, const GroupDirections& directions,
                                 std::int64_t tokens) {
    if (const auto wanted = one.part(part + ".proj"))
      one.hold(part + " projection", at::mm(directions.basis, directions.basis.t()), *wanted, kProjectionTolerance);
    if (const auto wanted = one.part(part + ".eig")) {
      const double largest = wanted->abs().max().item<double>();
      one.hold(part + " eigenvalues", directions.values * static_cast<double>(tokens), *wanted,
               kEigenvalueTolerance * largest);
    }
  }

  static void compare_losses(RelatedCase& one, const Decoder& decoder, const std::vector<std::int64_t>& ids,
                             std::int64_t groups) {
    const Json& json = one.json();
    const std::vector<std::int64_t> text = expected::ids(json, "eval_ids", decoder.spec().vocabulary - 1, one.where());
    one.hold_nll("base", decoder, text, {{"mean_nll", json.at("base_mean_nll")}}, kNllTolerance);
    for (const auto& [what, pass] : variants(groups)) {
      if (!expected::has(json, what)) continue;
      Decoder converted = decoder.clone();
      apply_pass(converted, pass, ids);
      one.hold_nll(what, converted, text, json[what], kNllTolerance);
    }
  }
};

const Registration<RelatedSystem, KvHeadsCases> kKvHeadsCases("kv_heads", "KV-Heads (arXiv 2406.07056)");

}  // namespace
}  // namespace mla
