// EliteKV's search for pairs, X-EcoMLA's start, KQ-SVD's products: exact where nothing is left out, and what each says.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "core/attention/grouped_query.h"
#include "core/compress/calibration/layer_walk.h"
#include "tests/support/attention_models.h"
#include "tests/support/converted_models.h"
#include "tests/support/errors.h"

namespace mla {
namespace {

using test::PassedModel;
using testing::HasSubstr;

std::string plan_refusal(const Json& config, const ModelSpec& spec) {
  return test::message_of<ConfigError>([&] { test::pass_of(config)->plan(spec); });
}

class Neighbours : public testing::TestWithParam<std::string> {
 protected:
  Neighbours() : model(test::tiny_spec(GetParam())), heads(*model.source.spec().attention(0).heads()) {}
  PassedModel model;
  HeadFields heads;
  at::NoGradGuard no_grad;
};

TEST_P(Neighbours, KqSvdOfFullRankIsTheSource) {
  const std::int64_t all = 2 * heads.kv_heads * heads.head_dim;
  EXPECT_LT(model.difference(model.after({{"name", "kq_svd"}, {"cached", all}})), test::kSameLogits);
  const Decoder less = model.after({{"name", "kq_svd"}, {"cached", 5 * heads.kv_heads}});
  EXPECT_EQ(cached_elements(less.spec().attention(0)), 5 * heads.kv_heads);
  EXPECT_GT(model.difference(less), 1e-6);
  model.expect_whole(less, GetParam());
}

/// tr((I - B A^T) C_k (I - A B^T) C_q): the mean square of what products of queries and keys lose.
double products_lost(const at::Tensor& cached, const at::Tensor& ask, const at::Tensor& keys,
                     const at::Tensor& queries) {
  const at::Tensor missing = at::eye(keys.size(0), at::kDouble) - at::mm(ask, cached.t());
  return at::mm(at::mm(at::mm(missing, keys), missing.t()), queries).trace().item<double>();
}

TEST_P(Neighbours, KqSvdLosesLessOfProductsThanDirectionsOfKeysDo) {
  const Requirement query_moments{Tap::kQueryRotated, "head_moments"}, key_moments{Tap::kKeyRotated, "head_moments"};
  const Statistics measured = calibrate(model.source, model.calibration, {query_moments, key_moments}, {}, {});
  PassReport report;
  Decoder decoder = model.after({{"name", "kq_svd"}, {"cached", 6 * heads.kv_heads}}, &report);
  at::Tensor cached, ask;
  decoder.layers[0].attention->visit_parameters([&](const std::string& name, at::Tensor& tensor) {
    if (name == "k_up_proj.weight") cached = tensor;
    if (name == "q_up_proj.weight") ask = tensor;
  });
  double lost = 0, all = 0;
  for (std::int64_t head = 0; head < heads.kv_heads; ++head) {
    const at::Tensor keys = measured.at(key_moments, 0)[head],
                     queries = measured.at(query_moments, 0).narrow(0, head * heads.group(), heads.group()).sum(0);
    const auto own = [&](const at::Tensor& maps) { return maps.narrow(0, head * heads.head_dim, heads.head_dim); };
    const at::Tensor leading = std::get<1>(at::linalg_eigh(keys)).narrow(1, heads.head_dim - 3, 3);
    const double best = products_lost(own(cached), own(ask), keys, queries);
    EXPECT_LE(best, products_lost(leading, leading, keys, queries) * (1 + 1e-9));
    lost += best;
    all += products_lost(at::zeros_like(leading), leading, keys, queries);
  }
  EXPECT_NEAR(report.layers[0].error.key, std::sqrt(lost / all), 1e-6);
}

TEST_P(Neighbours, EliteKvWithAllPairsAndFullRankIsTheSource) {
  const std::int64_t pairs = heads.head_dim / 2, half = heads.kv_heads * heads.head_dim;
  const Json all = {{"name", "elitekv"}, {"pairs", pairs}, {"cached", 2 * half}};
  EXPECT_LT(model.difference(model.after(all)), test::kSameLogits);
  const Decoder less = model.after({{"name", "elitekv"}, {"cached", 2 * heads.kv_heads + 5}});
  EXPECT_EQ(cached_elements(less.spec().attention(0)), 2 * heads.kv_heads + 5);
  model.expect_whole(less, GetParam());
}

/// Mean absolute difference of the first layer's logits from the source's, by KV head, at every eighth query.
at::Tensor logit_errors(const Decoder& source, const Decoder& decoder, const TokenRowList& rows,
                        const HeadFields& heads) {
  const auto logits = [&](const Decoder& of) {
    std::vector<at::Tensor> queries, keys, all;
    const LayerWalk walk(of, rows, {});
    walk.observe(Tap::kQueryRotated, [&](std::size_t, const at::Tensor& shown) { queries.push_back(shown); });
    walk.observe(Tap::kKeyRotated, [&](std::size_t, const at::Tensor& shown) { keys.push_back(shown); });
    for (std::size_t batch = 0; batch < queries.size(); ++batch) {
      const at::Tensor k = keys[batch].repeat_interleave(heads.heads / keys[batch].size(1), 1);
      const at::Tensor products = at::matmul(queries[batch], k.transpose(2, 3));  // [rows, heads, queries, keys]
      for (std::int64_t t = 7; t < products.size(2); t += 8)
        all.push_back(products.select(2, t).narrow(2, 0, t + 1).transpose(0, 1).flatten(1));
    }
    return at::cat(all, 1).unflatten(0, {heads.kv_heads, heads.group()});
  };
  return (logits(source) - logits(decoder)).abs().mean(at::IntArrayRef{1, 2});
}

TEST_P(Neighbours, EliteKvTakesThePairWithTheClosestLogits) {
  PassReport report;
  model.after({{"name", "elitekv"}, {"pairs", 1}, {"cached", 2 * heads.kv_heads + 5}}, &report);
  std::vector<at::Tensor> errors;  // by pair
  for (std::int64_t pair = 0; pair < heads.head_dim / 2; ++pair) {
    const Decoder one = model.after({{"name", "partial_rope"}, {"rope", {{"name", "explicit"}, {"kept", {pair}}}}});
    errors.push_back(logit_errors(model.source, one, model.calibration, heads));
  }
  const at::Tensor best = at::stack(errors).argmin(0);
  for (std::int64_t head = 0; head < heads.kv_heads; ++head)
    EXPECT_EQ(report.layers[0].kept[static_cast<std::size_t>(head)],
              std::vector<std::int64_t>{best[head].item<std::int64_t>()});
}

TEST_P(Neighbours, XEcoMlaOfOneHeadThatIsAllRotatedIsTheSource) {
  UniformModel uniform = test::tiny_model(GetParam());
  uniform.heads.kv_heads = 1;
  const PassedModel one(uniform.spec());
  EXPECT_LT(one.difference(one.after({{"name", "x_ecomla"}, {"rotated", 8}, {"cached", 16}})), test::kSameLogits);
}

TEST_P(Neighbours, XEcoMlaStartsFromMeansAndTheJointDecomposition) {
  PassReport report;
  const std::int64_t full = 4 + std::min<std::int64_t>(heads.kv_heads * 12, 32);
  Decoder decoder = model.after({{"name", "x_ecomla"}, {"cached", full}}, &report);
  EXPECT_LT(report.layers[0].error.joint, 1e-10);
  at::Tensor rope_key, key;
  decoder.layers[0].attention->visit_parameters([&](const std::string& name, at::Tensor& tensor) {
    if (name == "k_rope_proj.weight") rope_key = tensor;
  });
  model.source.layers[0].attention->visit_parameters([&](const std::string& name, at::Tensor& tensor) {
    if (name == "k_proj.weight") key = tensor;
  });
  const at::Tensor mean = key.unflatten(0, {heads.kv_heads, heads.head_dim}).narrow(1, 4, 4).mean(0);
  EXPECT_LT(test::largest_difference(rope_key, mean), 1e-12);
  EXPECT_EQ(report.layers[0].kept, (KeptPairs{{0, 2}}));
  const Decoder less = model.after({{"name", "x_ecomla"}, {"cached", 9}});
  EXPECT_EQ(cached_elements(less.spec().attention(0)), 9);
  model.expect_whole(less, GetParam());
}

INSTANTIATE_TEST_SUITE_P(Kinds, Neighbours, testing::ValuesIn(test::linear_kinds()),
                         [](const auto& kind) { return kind.param; });

TEST(NeighbourPasses, RefuseWhatMakesNoSense) {
  const ModelSpec spec = test::spec_with_attention("grouped_query");  // 2 KV heads of width 8, hidden 32
  EXPECT_EQ(plan_refusal({{"name", "kq_svd"}, {"cached", 7}}, spec),
            "compress[0].cached = 7: must be a multiple of the 2 KV heads from 4 to 32");
  EXPECT_THAT(plan_refusal({{"name", "kq_svd"}}, spec), HasSubstr("compress[0].cached: state how many values"));
  EXPECT_EQ(plan_refusal({{"name", "elitekv"}, {"cached", 4}}, spec),
            "compress[0].cached = 4: must be from 5 to 32 with pairs = 1");
  EXPECT_EQ(plan_refusal({{"name", "elitekv"}, {"cached", 9}, {"pairs", 5}}, spec),
            "compress[0].pairs = 5: a head has 4");
  EXPECT_THAT(plan_refusal({{"name", "elitekv"}}, spec), HasSubstr("compress[0].cached: state how many values"));
  EXPECT_EQ(plan_refusal({{"name", "x_ecomla"}, {"cached", 4}}, spec),
            "compress[0].cached = 4: must be from 5 to 28 (rotated = 4)");
  EXPECT_EQ(plan_refusal({{"name", "x_ecomla"}, {"cached", 9}, {"rotated", 6}}, spec),
            "compress[0].rotated = 6: must divide head_dim = 8");
  EXPECT_EQ(plan_refusal({{"name", "x_ecomla"}, {"cached", 9}, {"rotated", 3}}, spec),
            "compress[0].rotated = 3: must be even and not negative");
  for (const char* name : {"kq_svd", "elitekv", "x_ecomla"}) {
    EXPECT_THAT(plan_refusal({{"name", name}, {"cached", 12}}, test::tiny_spec("qk_norm")), HasSubstr("QK-norm"));
    EXPECT_THAT(plan_refusal({{"name", name}, {"cached", 12}}, test::spec_with_attention("latent")),
                HasSubstr("layer 0 is of kind latent; expected grouped_query"));
  }
}

}  // namespace
}  // namespace mla
