// Which parameters are trained, and what happens to their gradients.
#include "core/train/trainable.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/error.h"
#include "tests/support/errors.h"
#include "tests/support/tiny_models.h"

namespace mla {
namespace {

std::vector<std::string> names(const std::string& selection) {
  Decoder decoder = test::tiny_decoder(test::tiny_spec("qk_norm"));
  const TrainableParameters parameters(decoder, selection, "train.trainable");
  std::vector<std::string> all;
  for (const auto& [name, tensor] : parameters.named()) all.push_back(name);
  return all;
}

TEST(TrainableParameters, SelectsByName) {
  EXPECT_EQ(names("all").size(), 3 + 2 * 11U);
  EXPECT_EQ(names("attention").size(), 2 * 6U);
  EXPECT_THAT(names("attention"), testing::Each(testing::HasSubstr("self_attn.")));
  EXPECT_EQ(names("attention_and_norms").size(), 1 + 2 * 8U);
  EXPECT_THAT(names("layers\\.1\\.mlp\\.(up|down)_proj"),
              testing::ElementsAre("model.layers.1.mlp.up_proj.weight", "model.layers.1.mlp.down_proj.weight"));
}

TEST(TrainableParameters, RefusesWhatSelectsNothing) {
  EXPECT_THAT(test::message_of<ConfigError>([] { names("atention"); }),
              testing::StartsWith("train.trainable: 'atention' matches no parameter; known: all, attention"));
  EXPECT_THAT(test::message_of<ConfigError>([] { names("("); }),
              testing::StartsWith("train.trainable = (: no regular expression"));
}

TEST(TrainableParameters, RefusesNarrowWeights) {
  Decoder decoder = test::tiny_decoder(test::tiny_spec("mha"), at::kBFloat16);
  EXPECT_THAT(test::message_of<ConfigError>([&] { TrainableParameters(decoder, "all", "train.trainable"); }),
              testing::HasSubstr("is held in BFloat16"));
}

TEST(TrainableParameters, GradientsAreRequiredOnlyWhileItLives) {
  Decoder decoder = test::tiny_decoder(test::tiny_spec("mha"));
  decoder.final_norm = at::ones({64}, at::kDouble).slice(0, 0, 64, 2);  // not contiguous
  {
    const TrainableParameters parameters(decoder, "norm", "test");
    EXPECT_TRUE(decoder.final_norm.requires_grad());
    EXPECT_TRUE(decoder.final_norm.is_contiguous());
    EXPECT_FALSE(decoder.embedding.to_dense().requires_grad());
    decoder.final_norm.square().sum().backward();
    EXPECT_TRUE(decoder.final_norm.grad().defined());
  }
  EXPECT_FALSE(decoder.final_norm.requires_grad());
  EXPECT_FALSE(decoder.final_norm.grad().defined());
}

TEST(TrainableParameters, ClipsTheNormOfAllGradientsTogether) {
  Decoder decoder = test::tiny_decoder(test::tiny_spec("mha"));
  TrainableParameters parameters(decoder, "final_norm|model.norm|embed", "test");
  const auto set = [&] {
    decoder.final_norm.mutable_grad() = at::zeros_like(decoder.final_norm.detach()).fill_(0);
    decoder.embedding.to_dense().mutable_grad() = at::zeros_like(decoder.embedding.to_dense().detach());
    decoder.final_norm.mutable_grad()[3] = 3.0;
    decoder.embedding.to_dense().mutable_grad()[2][5] = -4.0;
  };
  set();
  EXPECT_DOUBLE_EQ(parameters.clip_gradients(0), 5);
  EXPECT_DOUBLE_EQ(parameters.clip_gradients(6), 5);
  EXPECT_EQ(decoder.final_norm.grad()[3].item<double>(), 3);
  EXPECT_DOUBLE_EQ(parameters.clip_gradients(1), 5);
  EXPECT_DOUBLE_EQ(decoder.final_norm.grad()[3].item<double>(), 0.6);
  EXPECT_DOUBLE_EQ(decoder.embedding.to_dense().grad()[2][5].item<double>(), -0.8);
}

}  // namespace
}  // namespace mla
