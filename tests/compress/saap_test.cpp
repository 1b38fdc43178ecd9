// Structural pruning: what gradients and scores are, what goes by them, and that the rest computes what it did.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/attention/grouped_query.h"
#include "core/base/error.h"
#include "core/compress/calibration/importance.h"
#include "core/compress/calibration/loss_gradients.h"
#include "core/compress/layers/keep_structures.h"
#include "tests/support/attention_models.h"
#include "tests/support/errors.h"
#include "tests/support/pass_models.h"
#include "tests/support/tiny_models.h"

namespace mla {
namespace {

using test::refusal_of;
using testing::HasSubstr;

constexpr double kPrunedLogits = 1e-10, kSameScore = 1e-12;

Json saap(const Json& more = Json::object()) {
  Json config = {{"name", "saap"}};
  config.update(more);
  return config;
}

/// A tensor of the model by its name, to be changed.
at::Tensor weight_of(Decoder& decoder, const std::string& wanted) {
  at::Tensor found;
  decoder.visit_parameters([&](const std::string& name, at::Tensor& tensor) {
    if (name == wanted) found = tensor;
  });
  return found;
}

/// The sum of -log p of a row's tokens after the first.
double loss_of_row(const Decoder& decoder, const std::vector<std::int32_t>& row) {
  const at::Tensor ids = at::tensor(std::vector<std::int64_t>(row.begin(), row.end()), at::kLong);
  const at::Tensor logits = decoder.forward(ids.unsqueeze(0))[0];
  const at::Tensor chosen = at::log_softmax(logits, -1).narrow(0, 0, ids.size(0) - 1);
  return -chosen.gather(1, ids.narrow(0, 1, ids.size(0) - 1).unsqueeze(1)).sum().item<double>();
}

class Pruning : public testing::TestWithParam<std::string> {
 protected:
  Pruning() : source(test::tiny_decoder(test::tiny_spec(GetParam()))) {
    ids = test::random_ids(source.spec(), 2, 12);
    rows = test::random_rows(source.spec(), 4, 9);
    rows.back().resize(5);
    heads = *source.spec().attention(0).heads();
  }
  Decoder after(const Json& config) const { return test::after_pass(source, config, rows); }
  void expect_same(const Decoder& a, const Decoder& b) const {
    EXPECT_LT(test::largest_difference(a.forward(ids), b.forward(ids)), kPrunedLogits);
  }

  Decoder source;
  at::Tensor ids;
  TokenRowList rows;
  HeadFields heads;
  at::NoGradGuard no_grad;
};

TEST_P(Pruning, GradientsAreThoseOfTheLoss) {
  std::map<std::string, at::Tensor> sums;
  std::int64_t predicted = 0;
  for_row_gradients(source, rows, [&](std::int64_t tokens, const TensorMap& gradients) {
    predicted += tokens;
    for (const auto& [name, gradient] : gradients)
      sums[name] = sums[name].defined() ? sums[name] + gradient : gradient.clone();
  });
  EXPECT_EQ(predicted, 3 * 8 + 4);
  EXPECT_EQ(sums.size(), 7 * source.layers.size());
  constexpr double kStep = 1e-5;
  for (const char* map : {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
                          "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"}) {
    const std::string name = cat("model.layers.1.", map);
    const auto loss_with = [&](double step) {
      Decoder moved = source.clone();
      weight_of(moved, name + ".weight")[3][5] += step;
      double loss = 0;
      for (const auto& row : rows) loss += loss_of_row(moved, row);
      return loss;
    };
    const double slope = (loss_with(kStep) - loss_with(-kStep)) / (2 * kStep);
    EXPECT_NEAR(sums.at(name)[3][5].item<double>(), slope, 1e-6 * (1 + std::abs(slope))) << map;
  }
  // The model itself records nothing.
  source.visit_parameters([](const std::string& name, at::Tensor& tensor) {
    EXPECT_FALSE(tensor.requires_grad()) << name;
    EXPECT_FALSE(tensor.grad().defined()) << name;
  });
}

TEST_P(Pruning, ScoresAreTheirDefinitions) {
  const auto first = layer_importance(source, rows, TaylorOrder::kFirst);
  const auto second = layer_importance(source, rows, TaylorOrder::kSecond);
  const auto mixed = layer_importance(source, rows, TaylorOrder::kMixed);
  ASSERT_EQ(first.size(), source.layers.size());
  // One channel by hand: row 2 of the key matrix in layer 1.
  at::Tensor sum, squares;
  for_row_gradients(source, rows, [&](std::int64_t tokens, const TensorMap& gradients) {
    const at::Tensor own = gradients.at("model.layers.1.self_attn.k_proj")[2];
    sum = sum.defined() ? sum + own : own.clone();
    const at::Tensor square = (own / static_cast<double>(tokens)).square();
    squares = squares.defined() ? squares + square : square;
  });
  const at::Tensor weight = weight_of(source, "model.layers.1.self_attn.k_proj.weight")[2];
  const at::Tensor by_first = weight * sum / 28, by_second = weight.square() * squares / 4;
  const auto key_row = [](const LayerImportance& layer) { return layer.element.at("self_attn.k_proj")[2]; };
  EXPECT_NEAR(key_row(first[1]).item<double>(), by_first.abs().sum().item<double>(), kSameScore);
  EXPECT_NEAR(key_row(second[1]).item<double>(), by_second.abs().sum().item<double>(), kSameScore);
  EXPECT_NEAR(key_row(mixed[1]).item<double>(), (by_first - by_second / 2).abs().sum().item<double>(), kSameScore);
  EXPECT_NEAR(first[1].vector.at("self_attn.k_proj")[2].item<double>(), std::abs(by_first.sum().item<double>()),
              kSameScore);
  for (const LayerImportance& layer : first) {
    double channels = 0;
    for (const auto& [map, scores] : layer.element) channels += scores.sum().item<double>();
    const double structures = (layer.by_element.kv_groups.sum() + layer.by_element.feed_forward.sum()).item<double>();
    EXPECT_NEAR(structures, channels, kSameScore * channels);
    EXPECT_TRUE(layer.by_vector.kv_groups.le(layer.by_element.kv_groups).all().item<bool>());
    EXPECT_TRUE(layer.fluctuation.kv_groups.gt(0).all().item<bool>());
  }
}

TEST_P(Pruning, OneRowDoesNotFluctuate) {
  const auto importance = layer_importance(source, {rows[0], {7}}, TaylorOrder::kFirst);
  EXPECT_LT(importance[0].fluctuation.feed_forward.max().item<double>(), 1e-6);
}

TEST_P(Pruning, NothingPrunedIsTheSourceModel) {
  const Json nothing = saap({{"heads", 0}, {"channels", 0}});
  const Decoder decoder = after(nothing);
  EXPECT_EQ(decoder.spec(), source.spec());
  EXPECT_TRUE(at::equal(decoder.forward(ids), source.forward(ids)));
  EXPECT_FALSE(test::pass_of(nothing)->needs_calibration());
}

/// What is kept computes what it did with the output columns of the rest zero.
TEST_P(Pruning, WhatGoesMightAsWellBeZero) {
  Decoder zeroed = source.clone();
  const Decoder pruned = keep_structures(source, {{{}, {0, 3, 4, 47}}, {{1}, {}}});
  const std::int64_t width = heads.group() * heads.head_dim;
  const at::Tensor output = weight_of(zeroed, "model.layers.1.self_attn.o_proj.weight");
  for (std::int64_t head = 0; head < heads.kv_heads; ++head) {
    if (head != 1) output.narrow(1, head * width, width).zero_();
  }
  const at::Tensor down = weight_of(zeroed, "model.layers.0.mlp.down_proj.weight");
  at::Tensor kept = at::zeros({48}, at::kDouble);
  for (const std::int64_t channel : {0, 3, 4, 47}) kept[channel] = 1;
  down.mul_(kept);
  expect_same(pruned, zeroed);
  EXPECT_EQ(pruned.spec().attention(1).heads()->heads, heads.group());
  EXPECT_EQ(pruned.spec().layers[0].feed_forward.width, 4);
  test::expect_whole(pruned, GetParam(), ids);
}

/// A head and channels that do nothing have no score, and are what goes.
TEST_P(Pruning, WhatDoesNothingGoesFirst) {
  const std::int64_t width = heads.group() * heads.head_dim;
  for (std::size_t layer = 0; layer < source.layers.size(); ++layer) {
    const std::string prefix = cat("model.layers.", layer, ".");
    weight_of(source, prefix + "self_attn.o_proj.weight").narrow(1, 0, width).zero_();
    weight_of(source, prefix + "self_attn.q_proj.weight").narrow(0, 0, width).zero_();
    weight_of(source, prefix + "self_attn.k_proj.weight").narrow(0, 0, heads.head_dim).zero_();
    weight_of(source, prefix + "self_attn.v_proj.weight").narrow(0, 0, heads.head_dim).zero_();
    for (const std::int64_t channel : {2, 3, 40}) {
      weight_of(source, prefix + "mlp.down_proj.weight").select(1, channel).zero_();
      weight_of(source, prefix + "mlp.gate_proj.weight")[channel].zero_();
      weight_of(source, prefix + "mlp.up_proj.weight")[channel].zero_();
    }
  }
  const auto importance = layer_importance(source, rows, TaylorOrder::kMixed);
  EXPECT_EQ(importance[0].by_element.kv_groups[0].item<double>(), 0);
  EXPECT_EQ(importance[1].by_vector.feed_forward[40].item<double>(), 0);
  for (const char* score : {"element", "vector", "fused", "geometric"}) {
    for (const char* spread : {"each", "together"}) {
      SCOPED_TRACE(cat(score, " ", spread));
      const Decoder decoder = after(saap({{"heads", 1.0 / static_cast<double>(heads.kv_heads)},
                                          {"channels", 3.0 / 48},
                                          {"score", score},
                                          {"stable", spread == std::string("each")},
                                          {"spread", spread}}));
      for (const LayerSpec& layer : decoder.spec().layers) {
        EXPECT_EQ(layer.attention->heads()->kv_heads, heads.kv_heads - 1);
        EXPECT_EQ(layer.feed_forward.width, 45);
      }
      expect_same(decoder, source);
      test::expect_whole(decoder, GetParam(), ids);
    }
  }
}

TEST_P(Pruning, BudgetsAreMetExactly) {
  const std::int64_t layers = source.spec().layer_count();
  for (const char* spread : {"each", "together"}) {
    for (const double share : {0.3, 0.55, 0.9}) {
      const bool together = spread == std::string("together");
      const Decoder decoder =
          after(saap({{"heads", 0.5}, {"channels", share}, {"spread", spread}, {"order", "second"}}));
      std::int64_t channels = 0, kv_heads = 0;
      for (const LayerSpec& layer : decoder.spec().layers) {
        channels += layer.feed_forward.width;
        kv_heads += layer.attention->heads()->kv_heads;
        EXPECT_EQ(layer.attention->heads()->group(), heads.group());
        EXPECT_GE(layer.feed_forward.width, 1);
      }
      const auto gone = static_cast<std::int64_t>(share * static_cast<double>(together ? 48 * layers : 48) + 1e-9);
      EXPECT_EQ(channels, 48 * layers - (together ? gone : layers * gone)) << spread << share;
      EXPECT_EQ(kv_heads, heads.kv_heads * layers / 2);
      EXPECT_EQ(cached_elements(decoder.spec()), cached_elements(source.spec()) / 2);
      test::expect_whole(decoder, GetParam(), ids);
    }
  }
}

TEST_P(Pruning, LayersThatAreSkippedStayWhole) {
  const Decoder decoder = after(saap({{"heads", 0.5}, {"channels", 0.5}, {"skip_first", 1}}));
  EXPECT_EQ(decoder.spec().layers[0], source.spec().layers[0]);
  EXPECT_EQ(decoder.spec().layers[1].feed_forward.width, 24);
  EXPECT_EQ(decoder.spec().attention(1).heads()->kv_heads, heads.kv_heads / 2);
}

INSTANTIATE_TEST_SUITE_P(Kinds, Pruning, testing::ValuesIn(test::tiny_kinds()),
                         [](const auto& kind) { return kind.param; });

TEST(SaapPass, ReadsSoManyRowsAndTokens) {
  const Decoder source = test::tiny_decoder(test::tiny_spec("gqa"));
  const TokenRowList rows = test::random_rows(source.spec(), 5, 12);
  TokenRowList some = rows;
  some.resize(2);
  for (auto& row : some) row.resize(6);
  const Json config = saap({{"rows", 2}, {"length", 6}}), all = saap({{"rows", 0}, {"length", 0}});
  const at::Tensor ids = test::random_ids(source.spec(), 1, 8);
  const at::NoGradGuard no_grad;
  const Decoder cut = test::after_pass(source, config, rows);
  EXPECT_TRUE(at::equal(cut.forward(ids), test::after_pass(source, all, some).forward(ids)));
  EXPECT_FALSE(at::equal(cut.forward(ids), test::after_pass(source, all, rows).forward(ids)));
}

TEST(SaapPass, PrunesChannelsUnderAnyAttention) {
  for (const char* kind : {"latent", "mfa", "shared_attention", "split_latent"}) {
    const Decoder source = test::tiny_decoder(test::spec_with_attention(kind));
    const Decoder decoder = test::after_pass(source, saap({{"heads", 0}, {"channels", 0.5}, {"spread", "each"}}),
                                             test::random_rows(source.spec(), 2, 8));
    for (const LayerSpec& layer : decoder.spec().layers) EXPECT_EQ(layer.feed_forward.width, 24) << kind;
  }
}

TEST(SaapPass, RefusesWhatMakesNoSense) {
  const ModelSpec spec = test::tiny_spec("gqa");
  EXPECT_EQ(refusal_of(saap({{"heads", 1}}), spec), "compress[0].heads = 1: must be at least 0 and below 1");
  EXPECT_EQ(refusal_of(saap({{"channels", -0.1}}), spec),
            "compress[0].channels = -0.1: must be at least 0 and below 1");
  EXPECT_EQ(refusal_of(saap({{"heads", 0.2}}), spec),
            "compress[0].heads = 0.2: of 4 KV heads, 0 would go; expected at least 1, and one left in each layer; 0: "
            "none");
  EXPECT_EQ(refusal_of(saap({{"heads", 0.25}, {"spread", "each"}}), spec),
            "compress[0].heads = 0.25: of 4 KV heads, layer by layer, 0 would go; expected at least 1, and one left in "
            "each layer; 0: none");
  EXPECT_THAT(refusal_of(saap({{"heads", 0.8}}), spec), HasSubstr("of 4 KV heads, 3 would go"));
  EXPECT_EQ(refusal_of(saap({{"skip_first", 1}, {"skip_last", 1}}), spec),
            "compress[0].skip_first = 1, skip_last = 1: leave none of the 2 layers to prune");
  EXPECT_EQ(refusal_of(saap({{"skip_last", -1}}), spec), "compress[0].skip_last = -1: must not be negative");
  EXPECT_EQ(refusal_of(saap({{"length", 1}}), spec), "compress[0].length = 1: must be 0, for all, or at least 2");
  EXPECT_THAT(refusal_of(saap({{"score", "size"}}), spec), HasSubstr("compress[0].score"));
  EXPECT_THAT(refusal_of(saap(), test::spec_with_attention("latent")),
              HasSubstr("layer 0 is of kind latent; expected grouped_query: prune heads before other passes"));
  const Decoder source = test::tiny_decoder(spec);
  EXPECT_THAT(test::message_of<DataError>([&] {
                test::after_pass(source, saap(), {{3}, {4}});
              }),
              HasSubstr("no row has two tokens or more"));
}

}  // namespace
}  // namespace mla
