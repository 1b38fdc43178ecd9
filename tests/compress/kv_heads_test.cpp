// Fewer KV heads, and keys and values of low rank: what is exact, what it costs, and what makes no sense.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "core/attention/grouped_query.h"
#include "core/compress/pass.h"
#include "tests/support/attention_models.h"
#include "tests/support/pass_models.h"
#include "tests/support/tiny_models.h"

namespace mla {
namespace {

using test::refusal_of;
using testing::HasSubstr;

constexpr double kSameLogits = 1e-9;

/// The kinds of model without QK-norm, which both passes refuse.
std::vector<std::string> linear_kinds() {
  std::vector<std::string> kinds = test::tiny_kinds();
  std::erase(kinds, "qk_norm");
  return kinds;
}

class HeadPasses : public testing::TestWithParam<std::string> {
 protected:
  HeadPasses() : source(test::tiny_decoder(test::tiny_spec(GetParam()))) {
    ids = test::random_ids(source.spec(), 2, 14);
    rows = test::random_rows(source.spec(), 6, 20);
  }
  Decoder after(const Json& config, PassReport* report = nullptr) const {
    return test::after_pass(source, config, rows, report);
  }
  /// Makes the KV heads of each layer the first one's, rows of key and value matrices and biases.
  void make_heads_alike() {
    const HeadFields heads = *source.spec().attention(0).heads();
    source.visit_parameters([&](const std::string& name, at::Tensor& tensor) {
      if (name.find(".k_proj.") == std::string::npos && name.find(".v_proj.") == std::string::npos) return;
      const at::Tensor first = tensor.narrow(0, 0, heads.head_dim).clone();
      for (std::int64_t head = 1; head < heads.kv_heads; ++head)
        tensor.narrow(0, head * heads.head_dim, heads.head_dim).copy_(first);
    });
  }
  void expect_same(const Decoder& decoder) const {
    EXPECT_LT(test::largest_difference(decoder.forward(ids), source.forward(ids)), kSameLogits);
  }
  void expect_whole(const Decoder& decoder) const { test::expect_whole(decoder, GetParam(), ids); }
  Decoder source;
  at::Tensor ids;
  TokenRowList rows;
  at::NoGradGuard no_grad;
};

const std::vector<Json> kWays = {{{"method", "calibrated"}},
                                 {{"method", "calibrated"}, {"keys", "unrotated"}},
                                 {{"method", "calibrated"}, {"parts", "keys"}},
                                 {{"method", "calibrated"}, {"parts", "values"}},
                                 {{"method", "svd"}},
                                 {{"method", "svd"}, {"parts", "keys"}},
                                 {{"method", "svd"}, {"parts", "values"}},
                                 {{"method", "mean"}}};

Json fewer(std::int64_t kv_heads, const Json& way) {
  Json config = {{"name", "kv_heads"}, {"kv_heads", kv_heads}};
  config.update(way);
  return config;
}

TEST_P(HeadPasses, AllHeadsKeptIsTheSourceModel) {
  const std::int64_t all = source.spec().attention(0).heads()->kv_heads;
  for (const Json& way : kWays) {
    const Decoder decoder = after(fewer(all, way));
    EXPECT_EQ(decoder.spec(), source.spec());
    EXPECT_TRUE(at::equal(decoder.forward(ids), source.forward(ids))) << way;
  }
}

TEST_P(HeadPasses, HeadsThatAreAlikeBecomeOneWithoutLoss) {
  make_heads_alike();
  for (const Json& way : kWays) {
    SCOPED_TRACE(way.dump());
    const Decoder decoder = after(fewer(1, way));
    expect_same(decoder);
    expect_whole(decoder);
  }
}

TEST_P(HeadPasses, CachesSoManyHeads) {
  const HeadFields heads = *source.spec().attention(0).heads();
  const std::int64_t layers = source.spec().layer_count();
  for (const Json& way : kWays) {
    SCOPED_TRACE(way.dump());
    const Decoder decoder = after(fewer(1, way));
    const std::int64_t kept = way.contains("parts") ? heads.kv_heads + 1 : 2;
    EXPECT_EQ(cached_elements(decoder.spec()), layers * kept * heads.head_dim);
    expect_whole(decoder);
  }
}

TEST_P(HeadPasses, CalibratedDirectionsLoseNoMoreThanOthersOfTheirSide) {
  PassReport rotated, unrotated;
  after(fewer(1, {{"method", "calibrated"}}), &rotated);
  after(fewer(1, {{"method", "calibrated"}, {"keys", "unrotated"}}), &unrotated);
  for (std::size_t i = 0; i < rotated.layers.size(); ++i) {
    EXPECT_GT(rotated.layers[i].error.key, 0);
    EXPECT_LT(rotated.layers[i].error.key, 1);
    // A quarter or half of the dims of random keys cannot hold all of them.
    EXPECT_GT(rotated.layers[i].error.value, 0.1);
    EXPECT_DOUBLE_EQ(rotated.layers[i].error.value, unrotated.layers[i].error.value);
  }
}

Json factored(std::int64_t width, const Json& more = Json::object()) {
  Json config = {{"name", "lorc"}, {"width", width}, {"allocate", {{"name", "uniform"}}}};
  config.update(more);
  return config;
}

TEST_P(HeadPasses, FullRankIsTheSourceModel) {
  const HeadFields heads = *source.spec().attention(0).heads();
  const std::int64_t full = std::min(heads.kv_heads * heads.head_dim, source.spec().hidden);
  for (const char* parts : {"both", "keys", "values"}) {
    const Decoder decoder = after(factored(full, {{"parts", parts}}));
    expect_same(decoder);
    expect_whole(decoder);
  }
}

TEST_P(HeadPasses, LowRankIsThatOfTheWeights) {
  PassReport report;
  const Decoder decoder = after(factored(5), &report);
  expect_whole(decoder);
  Decoder truncated = source.clone();
  truncated.visit_parameters([&](const std::string& name, at::Tensor& tensor) {
    if (!name.ends_with("k_proj.weight") && !name.ends_with("v_proj.weight")) return;
    const auto [left, values, right] = at::linalg_svd(tensor, false);
    tensor.copy_(at::mm(left.narrow(1, 0, 5) * values.narrow(0, 0, 5), right.narrow(0, 0, 5)));
  });
  EXPECT_LT(test::largest_difference(decoder.forward(ids), truncated.forward(ids)), kSameLogits);
  EXPECT_EQ(cached_elements(decoder.spec()), source.spec().layer_count() * 2 * 5);
  EXPECT_EQ(report.layers[0].singular_values.size(), 5);
  PassReport wider;
  after(factored(6), &wider);
  for (std::size_t i = 0; i < report.layers.size(); ++i) {
    EXPECT_LT(wider.layers[i].error.key, report.layers[i].error.key);
    EXPECT_LT(wider.layers[i].error.value, report.layers[i].error.value);
  }
}

TEST_P(HeadPasses, ProgressiveWidthsMeetTheBudgetExactly) {
  for (const std::int64_t width : {3, 5, 8}) {
    for (const bool reversed : {false, true}) {
      PassReport report;
      const Decoder decoder = after(
          factored(width, {{"allocate", {{"name", "condition_numbers"}, {"least", 0.4}, {"reversed", reversed}}}}),
          &report);
      EXPECT_EQ(cached_elements(decoder.spec()), source.spec().layer_count() * 2 * width);
      const std::size_t first = report.layers[0].singular_values.size(), last = report.layers[1].singular_values.size();
      EXPECT_TRUE(reversed ? first < last : first > last) << first << " " << last;
      expect_whole(decoder);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Kinds, HeadPasses, testing::ValuesIn(linear_kinds()),
                         [](const auto& kind) { return kind.param; });

TEST(KvHeadsPass, RefusesWhatMakesNoSense) {
  const ModelSpec spec = test::spec_with_attention("grouped_query");
  const auto of = [](const Json& more) { return fewer(1, more); };
  EXPECT_EQ(refusal_of(fewer(0, Json::object()), spec), "compress[0].kv_heads = 0: must be at least 1");
  EXPECT_EQ(refusal_of(fewer(3, Json::object()), spec),
            "compress[0].kv_heads = 3: must divide the 2 KV heads of layer 0");
  EXPECT_EQ(refusal_of(of({{"method", "mean"}, {"parts", "keys"}}), spec),
            "compress[0].parts: the mean of heads is taken of keys and values together; expected both");
  EXPECT_EQ(refusal_of(of({{"method", "svd"}, {"keys", "unrotated"}}), spec),
            "compress[0].keys: method calibrated alone has a choice; leave it out");
  EXPECT_THAT(refusal_of(of({{"method", "median"}}), spec), HasSubstr("compress[0].method"));
  EXPECT_THAT(refusal_of(of(Json::object()), test::tiny_spec("qk_norm")), HasSubstr("QK-norm"));
  EXPECT_THAT(refusal_of(of(Json::object()), test::spec_with_attention("latent")),
              HasSubstr("layer 0 is of kind latent; expected grouped_query"));
}

TEST(LorcPass, RefusesWhatMakesNoSense) {
  const ModelSpec spec = test::spec_with_attention("grouped_query");
  EXPECT_EQ(refusal_of(factored(0), spec), "compress[0].width = 0: must be from 1 to the rank 16 of layer 0");
  EXPECT_EQ(refusal_of(factored(17), spec), "compress[0].width = 17: must be from 1 to the rank 16 of layer 0");
  EXPECT_EQ(refusal_of({{"name", "lorc"}, {"width", {4, 4}}}, spec),
            "compress[0].width: a list of 2 values; the model has 3 layers");
  EXPECT_EQ(refusal_of(factored(4, {{"allocate", {{"name", "condition_numbers"}, {"least", 0.0}}}}), spec),
            "compress[0].allocate.least = 0: must be above 0, at most 1");
  EXPECT_THAT(refusal_of(factored(4), test::tiny_spec("qk_norm")), HasSubstr("QK-norm"));
  EXPECT_THAT(refusal_of(factored(4), test::spec_with_attention("latent")),
              HasSubstr("layer 0 is of kind latent; expected grouped_query"));
}

}  // namespace
}  // namespace mla
