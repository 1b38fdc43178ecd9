// Converted, untrained models against an independent float64 implementation and the official code's numbers.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "core/base/registry.h"
#include "core/compress/pass.h"
#include "core/partial_rope/selector.h"
#include "tests/support/shared_data.h"
#include "tests/support/tiny_models.h"

namespace mla {
namespace {

constexpr double kExact = 1e-9;           ///< float64 against float64
constexpr double kLogitTolerance = 1e-5;  ///< the golden logits are stored in float32

at::Tensor id_tensor(const Json& rows) {
  std::vector<at::Tensor> all;
  for (const Json& row : rows) all.push_back(at::tensor(row.get<std::vector<std::int64_t>>(), at::kLong));
  return at::stack(all);
}

Json pass_config(const Json& golden_case) {
  const std::string strategy = golden_case["strategy"], method = golden_case["method"];
  Json rope = {{"name", strategy == "2-norm" ? "two_norm" : strategy},
               {"pairs", golden_case["kept_subspaces_per_head"]}};
  if (strategy == "2-norm") rope["score"] = golden_case["score_rule"];
  Json low_rank = {{"name", method == "none" ? "none" : method + "_svd"}};
  // The golden low_rank is the width of each down-projection: split has two of them.
  if (method != "none")
    low_rank["d_kv"] = golden_case["low_rank_per_kv_head"].get<std::int64_t>() * (method == "split" ? 2 : 1);
  return {{"name", "mha2mla"}, {"rope", rope}, {"low_rank", low_rank}};
}

class GoldenConversion : public testing::TestWithParam<std::string> {
 protected:
  static std::filesystem::path golden_folder() {
    return test::shared_folder() / "data/conformance/mha2mla_conversion" / GetParam();
  }
  static std::filesystem::path model_folder() {
    return test::shared_folder() /
           (GetParam() == "llama-mha" ? "data/conformance/families/llama-mha" : "data/weights/tinystories-656k");
  }
  static Checkpoint load() {
    const LoadOptions options{.placement = Placement::in(at::kDouble)};
    return load_checkpoint(model_folder(), options);
  }
  static Statistics statistics(const Decoder& decoder, const Json& golden) {
    return calibrate(decoder, golden["calibration_ids"].get<std::vector<std::vector<std::int32_t>>>(),
                     {kQueryPairNorms, kKeyPairNorms}, {}, {});
  }
};

double mean_nll(const at::Tensor& logits, const at::Tensor& ids) {
  const std::int64_t count = ids.size(1) - 1;
  const at::Tensor chosen =
      logits.narrow(1, 0, count).log_softmax(-1).gather(-1, ids.narrow(1, 1, count).unsqueeze(-1));
  return -chosen.mean().item<double>();
}

TEST_P(GoldenConversion, CalibrationNorms) {
  MLA_NEEDS_SHARED("data/conformance/mha2mla_conversion");
  const Json golden = read_json(golden_folder() / "golden.json");
  const Checkpoint source = load();
  const Statistics found = statistics(source.decoder, golden);
  for (std::size_t layer = 0; layer < source.decoder.layers.size(); ++layer) {
    const auto index = static_cast<std::int64_t>(layer);
    const PairNorms measured = pair_norms({{kQueryPairNorms.name(), found.at(kQueryPairNorms, index)},
                                           {kKeyPairNorms.name(), found.at(kKeyPairNorms, index)}});
    for (const auto& [name, norms] :
         {std::pair{"mean_norm_q", &measured.query}, std::pair{"mean_norm_k", &measured.key}}) {
      for (std::size_t head = 0; head < norms->size(); ++head) {
        for (std::size_t pair = 0; pair < norms->at(head).size(); ++pair) {
          EXPECT_NEAR(norms->at(head)[pair], golden[name][layer][head][pair].get<double>(), kExact);
        }
      }
    }
  }
}

TEST_P(GoldenConversion, EveryCase) {
  MLA_NEEDS_SHARED("data/conformance/mha2mla_conversion");
  const c10::InferenceMode inference;
  const Json golden = read_json(golden_folder() / "golden.json");
  const WeightMap last_logits = read_safetensors(golden_folder() / "last_logits.safetensors");
  const Checkpoint source = load();
  const Statistics norms = statistics(source.decoder, golden);
  const at::Tensor ids = id_tensor(golden["eval_ids"]);
  EXPECT_NEAR(mean_nll(source.decoder.forward(ids), ids), golden["source"]["mean_nll"].get<double>(), kExact);

  for (const Json& expected : golden["cases"]) {
    const std::string id = expected["id"];
    SCOPED_TRACE(id);
    Decoder decoder = source.decoder.clone();
    PassInputs inputs;
    inputs.statistics = &norms;
    inputs.arithmetic = at::kDouble;
    const PassReport report =
        run_pass("mha2mla", *Registry<Pass>::instance().make(pass_config(expected), id), decoder, inputs);
    double summed_error = 0;
    for (std::size_t layer = 0; layer < report.layers.size(); ++layer) {
      const LayerReport& found = report.layers[layer];
      EXPECT_EQ(Json(found.kept), expected["keep"][layer]);
      EXPECT_EQ(cached_elements(report.after.attention(static_cast<std::int64_t>(layer))),
                expected["cache_elements_per_token_layer"].get<std::int64_t>());
      const Json& errors = expected["rel_fro_error"];
      EXPECT_NEAR(found.error.joint, errors["per_layer_concat"][layer].get<double>(), kExact);
      EXPECT_NEAR(found.error.key, errors["per_layer_k_nope"][layer].get<double>(), kExact);
      EXPECT_NEAR(found.error.value, errors["per_layer_v"][layer].get<double>(), kExact);
      summed_error += found.error.joint;
    }
    EXPECT_NEAR(summed_error, expected["rel_fro_error"]["sum_over_layers"].get<double>(), kExact);
    EXPECT_EQ(decoder.parameter_count(), expected["parameters"].get<std::int64_t>());
    EXPECT_EQ(count_parameters(report.after).total(), expected["parameters"].get<std::int64_t>());
    const at::Tensor logits = decoder.forward(ids);
    EXPECT_NEAR(mean_nll(logits, ids), expected["mean_nll"].get<double>(), kExact);
    EXPECT_LT(test::largest_difference(logits.narrow(0, 0, 2).select(1, ids.size(1) - 1), last_logits.at(id)),
              kLogitTolerance);
  }
}

INSTANTIATE_TEST_SUITE_P(Models, GoldenConversion, testing::Values("llama-mha", "tinystories-656k"),
                         [](const auto& test) { return test.param == "llama-mha" ? "llama_mha" : "tinystories_656k"; });

}  // namespace
}  // namespace mla
