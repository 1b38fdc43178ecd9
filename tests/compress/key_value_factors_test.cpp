// SVD-LLM, ASVD and Palu: latents of keys and of values with all of RoPE.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/attention/grouped_query.h"
#include "tests/support/attention_models.h"
#include "tests/support/converted_models.h"
#include "tests/support/errors.h"

namespace mla {
namespace {

using test::PassedModel;
using testing::HasSubstr;

const std::vector<Json> kLatentMethods = {
    {{"name", "svd_llm"}}, {{"name", "asvd"}}, {{"name", "asvd"}, {"exponent", 1.0}}, {{"name", "palu"}}};

Json budgeted(Json config, std::int64_t cached, const Json& more = Json::object()) {
  config["cached"] = cached;
  config.update(more);
  return config;
}

class KeyValueLatents : public testing::TestWithParam<std::string> {
 protected:
  KeyValueLatents() : model(test::tiny_spec(GetParam())), heads(*model.source.spec().attention(0).heads()) {}
  std::int64_t all() const { return 2 * heads.kv_heads * heads.head_dim; }

  PassedModel model;
  HeadFields heads;
  at::NoGradGuard no_grad;
};

TEST_P(KeyValueLatents, FullRankIsTheSource) {
  for (const Json& method : kLatentMethods) {
    SCOPED_TRACE(method.dump());
    EXPECT_LT(model.difference(model.after(budgeted(method, all()))), test::kSameLogits);
  }
  for (std::int64_t groups = 2; groups <= heads.kv_heads; groups *= 2)
    EXPECT_LT(model.difference(model.after(budgeted({{"name", "palu"}, {"groups", groups}}, all()))),
              test::kSameLogits);
}

TEST_P(KeyValueLatents, CacheWhatIsAskedForAndDecodeAsTheyRead) {
  for (const Json& method : kLatentMethods) {
    SCOPED_TRACE(method.dump());
    PassReport report;
    const Decoder decoder = model.after(budgeted(method, 9), &report);
    EXPECT_EQ(cached_elements(decoder.spec().attention(0)), 9);
    EXPECT_EQ(report.layers[0].singular_values.size(), 4u);
    EXPECT_EQ(report.layers[0].value_singular_values.size(), 5u);
    EXPECT_GT(report.layers[0].error.key, 0);
    model.expect_whole(decoder, GetParam());
    const Decoder shared = model.after(budgeted(method, 10, {{"allocate", {{"name", "adjusted"}}}}));
    EXPECT_EQ(cached_elements(shared.spec()), 20);
    model.expect_whole(shared, GetParam());
  }
}

/// The mean square, over calibration tokens, of what keys of one layer lose.
double keys_lost(const Decoder& source, const Decoder& decoder, const TokenRowList& rows) {
  const Requirements shown{{Tap::kKey, "samples", R"({"tokens":4096})"}};
  const at::Tensor wanted = calibrate(source, rows, shown, {}, {}).at(*shown.begin(), 0),
                   found = calibrate(decoder, rows, shown, {}, {}).at(*shown.begin(), 0);
  return (wanted - found).square().mean().item<double>();
}

TEST_P(KeyValueLatents, WhitenedOnesAreClosestOnWhatTheyWereMeasuredOn) {
  for (const std::int64_t cached : {4, 8, 12}) {
    const double whitened = keys_lost(
        model.source, model.after(budgeted({{"name", "svd_llm"}, {"damping", 1e-9}}, cached)), model.calibration);
    for (const Json& other : {Json{{"name", "palu"}}, Json{{"name", "asvd"}}})
      EXPECT_LE(whitened,
                keys_lost(model.source, model.after(budgeted(other, cached)), model.calibration) * (1 + 1e-9));
  }
  // Without sizes of inputs ASVD is the plain decomposition.
  const Decoder plain = model.after(budgeted({{"name", "palu"}}, 8)),
                flat = model.after(budgeted({{"name", "asvd"}, {"exponent", 0.0}}, 8));
  EXPECT_LT(test::largest_difference(plain.forward(model.ids), flat.forward(model.ids)), test::kSameLogits);
}

INSTANTIATE_TEST_SUITE_P(Kinds, KeyValueLatents, testing::ValuesIn(test::linear_kinds()),
                         [](const auto& kind) { return kind.param; });

TEST(KeyValuePasses, RefuseWhatMakesNoSense) {
  const ModelSpec spec = test::spec_with_attention("grouped_query");  // 2 KV heads of width 8
  const auto refusal = [](const Json& config, const ModelSpec& of) {
    return test::message_of<ConfigError>([&] { test::pass_of(config)->plan(of); });
  };
  EXPECT_EQ(refusal({{"name", "palu"}}, spec),
            "compress[0].cached: state how many values each layer caches per token; layer 0 has use for 32");
  EXPECT_EQ(refusal(budgeted({{"name", "palu"}}, 1), spec),
            "compress[0].cached = 1: must be at least 2, one for keys and one for values");
  EXPECT_EQ(refusal(budgeted({{"name", "svd_llm"}}, 33), spec),
            "compress[0].cached = 33: must be from 2 to 32 (layer 0)");
  EXPECT_EQ(refusal(budgeted({{"name", "palu"}, {"groups", 2}}, 9), spec),
            "compress[0].cached = 9: must be from 4 to 32, a multiple of groups = 2 (layer 0)");
  EXPECT_EQ(refusal(budgeted({{"name", "palu"}, {"groups", 3}}, 9), spec),
            "compress[0].groups = 3: must divide the 2 KV heads of layer 0");
  EXPECT_EQ(refusal(budgeted({{"name", "palu"}, {"groups", 0}}, 9), spec),
            "compress[0].groups = 0: must be at least 1");
  EXPECT_EQ(refusal(budgeted({{"name", "svd_llm"}, {"damping", 0.0}}, 9), spec),
            "compress[0].damping = 0: must be more than 0");
  EXPECT_EQ(refusal(budgeted({{"name", "asvd"}, {"exponent", 5.0}}, 9), spec),
            "compress[0].exponent = 5: must be from 0 to 4");
  for (const Json& method : kLatentMethods) {
    EXPECT_THAT(refusal(budgeted(method, 8), test::tiny_spec("qk_norm")), HasSubstr("QK-norm"));
    EXPECT_THAT(refusal(budgeted(method, 8), test::spec_with_attention("latent")),
                HasSubstr("layer 0 is of kind latent; expected grouped_query"));
  }
}

}  // namespace
}  // namespace mla
