#include <ATen/ATen.h>

#include <algorithm>
#include <numeric>

#include "core/base/fields.h"
#include "core/base/registry.h"
#include "core/compress/calibration/importance.h"
#include "core/compress/layers/keep_structures.h"
#include "experiments/conformance/related_cases.h"
#include "experiments/conformance/result_json.h"

namespace mla {
namespace {

/// The reference's loss, and so what its gradients begin with, is float32, whatever its model is: the stated tolerance
/// of float64 is out of reach, and that of float32, 2e-3, is held two hundred times over, by the largest score of a
/// tensor.
constexpr double kScoreTolerance = 1e-5, kFloatLoss = 1e-6;
constexpr double kPrunedLossTolerance = 1e-7;

/// The numbers of some rows, and what a case takes from their gradients.
struct TaylorCase {
  TokenRowList rows;
  TaylorOrder order = TaylorOrder::kFirst;
  bool vector = false;
};

std::vector<std::int64_t> ids_of(const Json& ids, const RelatedCase& one, std::int64_t vocabulary) {
  return expected::ids({{"ids", ids}}, "ids", vocabulary - 1, one.where());
}

TaylorCase taylor_case(const Json& json, const RelatedCase& one, std::int64_t vocabulary) {
  TaylorCase found;
  for (const Json& row : json.at("ids")) {
    const std::vector<std::int64_t> ids = ids_of(row, one, vocabulary);
    found.rows.emplace_back(ids.begin(), ids.end());
  }
  const std::string name = expected::text(json, "taylor", one.where());
  static const std::map<std::string, std::pair<TaylorOrder, bool>> known = {
      {"param_first", {TaylorOrder::kFirst, false}},
      {"param_second", {TaylorOrder::kSecond, false}},
      {"param_mix", {TaylorOrder::kMixed, false}},
      {"vectorize", {TaylorOrder::kFirst, true}}};
  const auto one_of = known.find(name);
  if (one_of == known.end())
    throw DataError(cat(one.where(), ".taylor = ", name, ": known: param_first, param_second, param_mix, vectorize"));
  std::tie(found.order, found.vector) = one_of->second;
  return found;
}

/// Differences relative to the largest score.
void hold_relative(RelatedCase& one, const std::string& what, const at::Tensor& found, const at::Tensor& wanted) {
  const double largest = wanted.abs().max().clamp_min(1e-300).item<double>();
  one.hold(what, found / largest, wanted / largest, kScoreTolerance);
}

/// Numbers of the structures with the least scores.
std::vector<double> least_first(const at::Tensor& scores, std::size_t count) {
  const at::Tensor flat = scores.contiguous();
  const double* data = flat.const_data_ptr<double>();
  std::vector<std::size_t> order(static_cast<std::size_t>(flat.numel()));
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return data[a] < data[b]; });
  order.resize(std::min(count, order.size()));
  return {order.begin(), order.end()};
}

/// LLM-Pruner's scores of channels, heads and groups, SAAP's fusion of two of them, and a model with a group removed.
class TaylorCases final : public RelatedSystem {
 public:
  explicit TaylorCases(Options) {}

  void run(RelatedCase& one) const override {
    const Decoder decoder = one.decoder();
    if (expected::has(one.json(), "taylor")) compare_scores(one, decoder);
    if (expected::has(one.json(), "kv_group")) compare_pruned(one, decoder);
    if (one.part("l0.fused")) compare_fusion(one, decoder);
  }

 private:
  static void compare_scores(RelatedCase& one, const Decoder& decoder) {
    const TaylorCase given = taylor_case(one.json(), one, decoder.spec().vocabulary);
    const std::vector<LayerImportance> importance = layer_importance(decoder, given.rows, given.order);
    for (std::size_t layer = 0; layer < importance.size(); ++layer) {
      const std::string prefix = cat("l", layer, ".");
      const LayerImportance& own = importance[layer];
      for (const auto& [map, scores] : given.vector ? own.vector : own.element) {
        if (const auto wanted = one.part(prefix + map + ".channel"))
          hold_relative(one, prefix + map, scores, wanted->flatten());
      }
      const StructureScores& structures = given.vector ? own.by_vector : own.by_element;
      for (const auto& [name, scores] : {std::pair{"query_head", structures.query_heads},
                                         {"kv_group", structures.kv_groups},
                                         {"mlp_channel", structures.feed_forward}}) {
        if (const auto wanted = one.part(prefix + name)) hold_relative(one, prefix + name, scores, wanted->flatten());
      }
      compare_order(one, cat("kv_group_order_l", layer, "_least_first"), structures.kv_groups);
      compare_order(one, cat("mlp_least_important_10_l", layer), structures.feed_forward);
    }
    double loss = 0, predicted = 0;
    for (const std::vector<std::int32_t>& row : given.rows) {
      for (const double nll : nll_of(decoder, {row.begin(), row.end()})) loss += nll;
      predicted += static_cast<double>(row.size()) - 1;
    }
    one.hold("loss", loss / predicted, expected::number(one.json(), "loss", one.where()), kFloatLoss);
  }

  static void compare_order(RelatedCase& one, const std::string& key, const at::Tensor& scores) {
    if (!expected::has(one.json(), key)) return;
    const std::vector<double> wanted = expected::numbers(one.json(), key, one.where());
    one.hold(key, least_first(scores, wanted.size()), wanted, 0);
  }

  /// On the rows of the file's first case with scores.
  static void compare_fusion(RelatedCase& one, const Decoder& decoder) {
    const Json& cases = one.file().json["cases"];
    const auto first =
        std::find_if(cases.begin(), cases.end(), [](const Json& other) { return expected::has(other, "taylor"); });
    if (first == cases.end()) throw DataError(cat(one.where(), ": no case of the file has rows to score on"));
    const TaylorCase given = taylor_case(*first, one, decoder.spec().vocabulary);
    const std::vector<LayerImportance> importance = layer_importance(decoder, given.rows, TaylorOrder::kFirst);
    for (std::size_t layer = 0; layer < importance.size(); ++layer) {
      const LayerImportance& own = importance[layer];
      for (const auto& [score, kind] :
           {std::pair{"fused", ImportanceScore::kFused}, {"geometric", ImportanceScore::kGeometric}}) {
        const std::string part = cat("l", layer, ".", score);
        if (const auto wanted = one.part(part))
          hold_relative(one, part, one_score(kind, own.by_element.kv_groups, own.by_vector.kv_groups),
                        wanted->flatten());
      }
    }
  }

  static void compare_pruned(RelatedCase& one, const Decoder& decoder) {
    const Json& json = one.json();
    const ModelSpec& spec = decoder.spec();
    const std::int64_t layer = expected::whole_number(json, "layer", 0, spec.layer_count() - 1, one.where());
    const std::int64_t kv_heads = spec.attention(layer).heads().value_or(HeadFields{}).kv_heads;
    const std::int64_t gone = expected::whole_number(json, "kv_group", 0, kv_heads - 1, one.where());
    const std::vector<std::int64_t> ids = ids_of(json.at("ids"), one, spec.vocabulary);
    one.hold_nll("base", decoder, ids, {{"mean_nll", json.at("base_mean_nll")}}, kPrunedLossTolerance);
    std::vector<KeptStructures> kept(spec.layers.size());
    for (std::int64_t head = 0; head < kv_heads; ++head) {
      if (head != gone) kept[static_cast<std::size_t>(layer)].kv_heads.push_back(head);
    }
    Json pruned = {{"mean_nll", json.at("pruned_mean_nll")}};
    if (expected::has(json, "nll")) pruned["nll"] = json["nll"];
    one.hold_nll("pruned", keep_structures(decoder, kept), ids, pruned, kPrunedLossTolerance);
  }
};

const Registration<RelatedSystem, TaylorCases> kTaylorCases("llm_pruner",
                                                            "scores of LLM-Pruner and SAAP (2305.11627, 2412.15127)");

}  // namespace
}  // namespace mla
