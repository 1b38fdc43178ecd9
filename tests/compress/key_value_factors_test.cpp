// SVD-LLM, ASVD, Palu and CARE: latents of keys and of values with all of RoPE.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/attention/grouped_query.h"
#include "core/low_rank/proportional_ranks.h"
#include "tests/support/attention_models.h"
#include "tests/support/converted_models.h"
#include "tests/support/errors.h"

namespace mla {
namespace {

using test::PassedModel;
using testing::HasSubstr;

const std::vector<Json> kLatentMethods = {{{"name", "svd_llm"}},
                                          {{"name", "asvd"}},
                                          {{"name", "asvd"}, {"exponent", 1.0}},
                                          {{"name", "palu"}},
                                          {{"name", "palu"}, {"ranks", "fisher"}},
                                          {{"name", "care_full_rope"}},
                                          {{"name", "care_full_rope"}, {"variant", "no_sqrt_care"}}};

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
    EXPECT_EQ(cached_elements(decoder.spec()), 18);
    if (!method.contains("ranks")) {
      EXPECT_EQ(cached_elements(decoder.spec().attention(0)), 9);
      EXPECT_EQ(report.layers[0].singular_values.size(), 4u);
      EXPECT_EQ(report.layers[0].value_singular_values.size(), 5u);
    }
    EXPECT_GT(report.layers[0].error.key, 0);
    model.expect_whole(decoder, GetParam());
    if (method.contains("ranks")) continue;
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
  // CARE's root of the moment is another root of the same: the same product.
  const Decoder root = model.after(budgeted({{"name", "care_full_rope"}}, 8)),
                cholesky = model.after(budgeted({{"name", "svd_llm"}, {"damping", 0.1}}, 8)),
                moment = model.after(budgeted({{"name", "care_full_rope"}, {"variant", "no_sqrt_care"}}, 8));
  EXPECT_LT(test::largest_difference(root.forward(model.ids), cholesky.forward(model.ids)), test::kSameLogits);
  EXPECT_GT(test::largest_difference(root.forward(model.ids), moment.forward(model.ids)), test::kSameLogits);
  // Without sizes of inputs ASVD is the plain decomposition.
  const Decoder plain = model.after(budgeted({{"name", "palu"}}, 8)),
                flat = model.after(budgeted({{"name", "asvd"}, {"exponent", 0.0}}, 8));
  EXPECT_LT(test::largest_difference(plain.forward(model.ids), flat.forward(model.ids)), test::kSameLogits);
}

/// Mean over elements of the root of the mean square of a row's gradient, by ATen's own backward pass.
double fisher_of(const PassedModel& model, const std::string& name) {
  const at::AutoGradMode record(true);
  Decoder decoder = model.source.clone();
  at::Tensor matrix;
  decoder.visit_parameters([&](const std::string& parameter, at::Tensor& tensor) {
    if (parameter != name + ".weight") return;
    tensor = tensor.detach().requires_grad_(true);
    matrix = tensor;
  });
  at::Tensor squares = at::zeros_like(matrix);
  for (const std::vector<std::int32_t>& row : model.calibration) {
    const at::Tensor ids = at::tensor(row, at::kInt).to(at::kLong).unsqueeze(0);
    const at::Tensor logits = decoder.forward(ids)[0].narrow(0, 0, ids.size(1) - 1).log_softmax(-1);
    const at::Tensor loss = -logits.gather(1, ids[0].narrow(0, 1, ids.size(1) - 1).unsqueeze(1)).mean();
    loss.backward();
    squares = squares + matrix.grad().square();
    matrix.mutable_grad().reset();
  }
  return (squares / static_cast<double>(model.calibration.size())).sqrt().mean().item<double>();
}

TEST_P(KeyValueLatents, FisherInformationGivesRanks) {
  std::vector<double> weights;
  std::vector<std::int64_t> most;
  for (std::int64_t layer = 0; layer < model.source.spec().layer_count(); ++layer) {
    for (const char* map : {"k_proj", "v_proj"}) {
      weights.push_back(fisher_of(model, cat("model.layers.", layer, ".self_attn.", map)));
      most.push_back(std::min(heads.kv_heads * heads.head_dim, model.source.spec().hidden));
    }
  }
  for (const std::int64_t cached : {6, 11}) {
    const Decoder decoder = model.after(budgeted({{"name", "palu"}, {"ranks", "fisher"}}, cached));
    std::vector<std::int64_t> found;
    for (std::int64_t layer = 0; layer < decoder.spec().layer_count(); ++layer) {
      for (const StreamShape& stream : decoder.spec().attention(layer).streams()) found.push_back(stream.width);
    }
    EXPECT_EQ(found, proportional_ranks(weights, most, cached * decoder.spec().layer_count()));
    EXPECT_NE(found, std::vector<std::int64_t>(found.size(), found[0])) << "nothing was measured";
  }
}

TEST(ProportionalRanks, AddUpWithinTheirRanges) {
  using Ranks = std::vector<std::int64_t>;
  EXPECT_EQ(proportional_ranks({1, 1, 2}, {9, 9, 9}, 8), (Ranks{2, 2, 4}));
  EXPECT_EQ(proportional_ranks({0.5, 0.3, 0.2}, {9, 9, 9}, 7), (Ranks{4, 2, 1})) << "3.5, 2.1, 1.4";
  EXPECT_EQ(proportional_ranks({8, 1, 1}, {4, 9, 9}, 10), (Ranks{4, 3, 3})) << "beyond the largest: to the others";
  EXPECT_EQ(proportional_ranks({98, 1, 1}, {9, 9, 9}, 9), (Ranks{7, 1, 1})) << "one at least";
  EXPECT_EQ(proportional_ranks({0, 0, 0, 0}, {3, 3, 3, 3}, 6), (Ranks{2, 2, 1, 1}));
  EXPECT_EQ(proportional_ranks({5, 0, 1}, {4, 4, 4}, 12), (Ranks{4, 4, 4})) << "all there is";
  EXPECT_EQ(proportional_ranks({5, 0, 1}, {4, 4, 4}, 3), (Ranks{1, 1, 1}));
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
  EXPECT_EQ(refusal(budgeted({{"name", "care_full_rope"}, {"damping", 0.0}}, 9), spec),
            "compress[0].damping = 0: must be more than 0");
  EXPECT_EQ(refusal(budgeted({{"name", "palu"}, {"ranks", "fisher"}, {"allocate", {{"name", "adjusted"}}}}, 9), spec),
            "compress[0].ranks = fisher: shares the ranks itself; leave allocate out");
  for (const Json& method : kLatentMethods) {
    EXPECT_THAT(refusal(budgeted(method, 8), test::tiny_spec("qk_norm")), HasSubstr("QK-norm"));
    EXPECT_THAT(refusal(budgeted(method, 8), test::spec_with_attention("latent")),
                HasSubstr("layer 0 is of kind latent; expected grouped_query"));
  }
}

}  // namespace
}  // namespace mla
