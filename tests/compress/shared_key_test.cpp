// TransMLA and CARE: one rotated key for all heads and a latent. What is exact, what is chosen, and what makes no
// sense.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "core/attention/latent.h"
#include "core/base/error.h"
#include "core/compress/calibration/held_out.h"
#include "tests/support/attention_models.h"
#include "tests/support/converted_models.h"
#include "tests/support/errors.h"

namespace mla {
namespace {

using test::PassedModel;
using testing::HasSubstr;

/// Roots and powers of a moment, and their inverses, stand between the source and a model of full rank.
constexpr double kSameByInverses = 1e-6;

Json extended(const Json& base, const Json& more) {
  Json config = base;
  config.update(more);
  return config;
}

const std::vector<Json> kSharedKeyMethods = {{{"name", "transmla"}},
                                             {{"name", "transmla"}, {"inputs", "found"}},
                                             {{"name", "transmla"}, {"inputs", "converted"}},
                                             {{"name", "care"}},
                                             {{"name", "care"}, {"variant", "care"}},
                                             {{"name", "care"}, {"variant", "no_sqrt_care"}},
                                             {{"name", "care"}, {"variant", "care"}, {"inputs", "found"}}};

class SharedKey : public testing::TestWithParam<std::string> {
 protected:
  /// Values that the source caches per token and layer.
  static std::int64_t all_values(const Decoder& decoder) { return cached_elements(decoder.spec().attention(0)); }
  at::NoGradGuard no_grad;
};

TEST_P(SharedKey, OneHeadKeptWholeIsTheSource) {
  UniformModel uniform = test::tiny_model(GetParam());
  uniform.heads.kv_heads = 1;
  const PassedModel model(uniform.spec());
  for (const Json& method : kSharedKeyMethods) {
    SCOPED_TRACE(method.dump());
    const Decoder decoder =
        model.after(extended(method, {{"cached", all_values(model.source)}, {"collapse", 1}, {"fold", 1}}));
    EXPECT_LT(model.difference(decoder), kSameByInverses);
  }
}

TEST_P(SharedKey, AllValuesAreTheRotationAlone) {
  const PassedModel model(test::tiny_spec(GetParam()));
  for (const auto& [collapse, fold] : {std::pair{1, 1}, {1, 2}, {2, 2}, {2, 4}}) {
    const Decoder rotated =
        model.after({{"name", "partial_rope"}, {"rope", {{"name", "rorope"}, {"collapse", collapse}, {"fold", fold}}}});
    for (const Json& method : kSharedKeyMethods) {
      SCOPED_TRACE(cat(method.dump(), collapse, fold));
      const Decoder decoder =
          model.after(extended(method, {{"cached", all_values(model.source)}, {"collapse", collapse}, {"fold", fold}}));
      EXPECT_LT(test::largest_difference(decoder.forward(model.ids), rotated.forward(model.ids)), kSameByInverses);
    }
  }
}

TEST_P(SharedKey, CachesWhatIsAskedForAndDecodesAsItReads) {
  const PassedModel model(test::tiny_spec(GetParam()));
  for (const Json& method : kSharedKeyMethods) {
    PassReport report;
    const Decoder decoder = model.after(extended(method, {{"cached", 11}, {"collapse", 2}, {"fold", 2}}), &report);
    SCOPED_TRACE(method.dump());
    EXPECT_EQ(cached_elements(decoder.spec().attention(0)), 11);
    EXPECT_EQ(report.layers[0].kept, (KeptPairs{{0, 2}}));
    EXPECT_EQ(report.layers[0].singular_values.size(), 7u);
    EXPECT_GT(report.layers[0].error.joint, 0);
    EXPECT_LT(report.layers[0].error.joint, 1);
    EXPECT_GT(model.difference(decoder), 1e-6);
    model.expect_whole(decoder, GetParam());
  }
}

TEST_P(SharedKey, RanksByLayerSpendTheBudget) {
  const PassedModel model(test::tiny_spec(GetParam()));
  for (const std::int64_t cached : {10, 13, 20, static_cast<int>(all_values(model.source)) - 1}) {
    PassReport report;
    const Decoder decoder = model.after(
        {{"name", "care"}, {"ranks", "adjusted"}, {"cached", cached}, {"collapse", 1}, {"fold", 1}}, &report);
    EXPECT_EQ(cached_elements(decoder.spec()), cached * decoder.spec().layer_count());
    model.expect_whole(decoder, GetParam());
  }
}

TEST_P(SharedKey, TheLayoutIsChosenOnTextThatWasHeldOut) {
  const PassedModel model(test::tiny_spec(GetParam()), 9);
  PassReport report;
  const Json open = {{"name", "transmla"}, {"cached", 12}, {"collapse", 2}};
  const Decoder chosen = model.after(open, &report);
  // The fold of least loss among 2 and 4, the search's own way: measured without the eighth row, judged by it alone.
  const HeldOutRows rows = hold_out(model.calibration, 1 << 20, "");
  ASSERT_EQ(rows.held_out.size(), 1u);
  EXPECT_EQ(rows.held_out[0], model.calibration[7]);
  PassedModel part(test::tiny_spec(GetParam()));
  part.calibration = rows.measured;
  std::vector<double> losses;
  for (const int fold : {2, 4})
    losses.push_back(mean_nll(part.after(extended(open, {{"fold", fold}, {"inputs", "found"}})), rows.held_out));
  const int best = losses[1] < losses[0] ? 4 : 2;
  const Decoder stated = model.after(extended(open, {{"fold", best}}));
  EXPECT_EQ(chosen.spec(), stated.spec());
  EXPECT_TRUE(at::equal(chosen.forward(model.ids), stated.forward(model.ids)));
  // With nothing stated but the budget.
  const Decoder any = model.after({{"name", "transmla"}, {"cached", 12}});
  EXPECT_EQ(cached_elements(any.spec()), 12 * any.spec().layer_count());
  model.expect_whole(any, GetParam());
}

INSTANTIATE_TEST_SUITE_P(Kinds, SharedKey, testing::ValuesIn(test::linear_kinds()),
                         [](const auto& kind) { return kind.param; });

TEST(SharedKeyPasses, LeaveLayersWithoutKeysAlone) {
  const PassedModel model(test::spec_with_attention("shared_attention"));
  for (const char* name : {"transmla", "care"}) {
    const Decoder decoder = model.after({{"name", name}, {"cached", 14}, {"collapse", 1}, {"fold", 1}});
    EXPECT_EQ(decoder.spec().attention(0).kind(), "latent");
    EXPECT_EQ(decoder.spec().attention(1).kind(), "shared_attention");
  }
}

TEST(SharedKeyPasses, RefuseWhatMakesNoSense) {
  const ModelSpec spec = test::spec_with_attention("grouped_query");  // 2 KV heads of width 8
  const auto refusal = [](const Json& more, const ModelSpec& of) {
    return test::message_of<ConfigError>([&] { test::pass_of(extended({{"name", "transmla"}}, more))->plan(of); });
  };
  EXPECT_EQ(refusal(Json::object(), spec),
            "compress[0].cached: state how many values each layer caches per token; layer 0 caches 32");
  EXPECT_EQ(refusal({{"cached", 0}}, spec), "compress[0].cached = 0: must be at least 1");
  EXPECT_EQ(refusal({{"cached", 33}}, spec),
            "compress[0].cached = 33: must be at most the 32 values that layer 0 caches");
  EXPECT_EQ(refusal({{"cached", 8}, {"collapse", 1}}, spec),
            "compress[0].cached = 8: must be more than the 8 values of the rotated key (collapse = 1)");
  EXPECT_EQ(refusal({{"cached", 2}}, spec), "compress[0].cached = 2: too few for a rotated key and a latent");
  EXPECT_EQ(refusal({{"cached", 9}, {"collapse", 3}}, spec),
            "compress[0].collapse = 3: must divide the 4 pairs of a head");
  EXPECT_EQ(refusal({{"cached", 9}, {"fold", 8}}, spec), "compress[0].fold = 8: must divide the 4 pairs of a head");
  EXPECT_EQ(refusal({{"cached", 9}, {"collapse", 2}, {"fold", 1}}, spec),
            "compress[0].fold = 1: must be a multiple of collapse = 2");
  EXPECT_EQ(refusal({{"cached", 9}, {"balance", 0.0}}, spec), "compress[0].balance = 0: must be more than 0");
  EXPECT_EQ(refusal({{"cached", 9}, {"damping", -1.0}}, spec), "compress[0].damping = -1: must not be negative");
  EXPECT_THAT(refusal({{"cached", 9}, {"inputs", "all"}}, spec), HasSubstr("compress[0].inputs"));
  EXPECT_THAT(refusal({{"cached", 9}}, test::tiny_spec("qk_norm")), HasSubstr("layer 0: qwen3 normalises its keys"));
  EXPECT_THAT(refusal({{"cached", 9}}, test::spec_with_attention("latent")),
              HasSubstr("layer 0 is of kind latent; expected grouped_query"));
  EXPECT_EQ(
      test::message_of<ConfigError>([&] {
        test::pass_of({{"name", "care"}, {"cached", 9}, {"collapse", 1}, {"ranks", "adjusted"}})->plan(spec);
      }),
      "compress[0].cached = 9: leaves a latent of 1; adjusted ranks need at least 2, one for keys and one for values");
  const PassedModel one_row(spec, 1);
  EXPECT_EQ(
      test::message_of<DataError>([&] {
        one_row.after({{"name", "transmla"}, {"cached", 12}});
      }),
      "compress[0].fold: chosen on calibration rows that are held out; at least 2 rows are needed, found 1; state "
      "collapse and fold, or give more calibration text");
}

}  // namespace
}  // namespace mla
