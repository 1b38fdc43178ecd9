#include "core/model/initialize.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "tests/support/tiny_models.h"

namespace mla {
namespace {

/// The sample deviation of n normal numbers is off by about 1 / sqrt(2 n).
constexpr double kStandardErrors = 5;

std::map<std::string, at::Tensor> parameters(Decoder& decoder) {
  std::map<std::string, at::Tensor> all;
  decoder.visit_parameters([&](const std::string& name, at::Tensor& tensor) { all[name] = tensor; });
  return all;
}

std::map<std::string, at::Tensor> initialized(const ModelSpec& spec, std::uint64_t seed) {
  Decoder decoder = initialize_decoder(spec, seed);
  return parameters(decoder);
}

class Initialize : public testing::TestWithParam<std::string> {};

TEST_P(Initialize, HasTheParametersOfItsGeometry) {
  const ModelSpec spec = test::tiny_spec(GetParam());
  Decoder decoder = initialize_decoder(spec, 1);
  EXPECT_EQ(decoder.parameter_count(), count_parameters(spec).total());
  Decoder loaded = test::tiny_decoder(spec);
  const auto expected = parameters(loaded);
  const auto actual = parameters(decoder);
  ASSERT_EQ(actual.size(), expected.size());
  for (const auto& [name, tensor] : expected) {
    ASSERT_TRUE(actual.contains(name)) << name;
    EXPECT_EQ(actual.at(name).sizes(), tensor.sizes()) << name;
    EXPECT_EQ(actual.at(name).scalar_type(), at::kFloat) << name;
  }
}

TEST_P(Initialize, BeginsNearTheUniformDistribution) {
  const ModelSpec spec = test::tiny_spec(GetParam());
  const Decoder decoder = initialize_decoder(spec, 1);
  const at::Tensor logits = decoder.forward(test::random_ids(spec, 2, 16));
  const double log_probability = at::log_softmax(logits, -1).mean().item<double>();
  EXPECT_NEAR(log_probability, -std::log(static_cast<double>(spec.vocabulary)), 0.05);
}

INSTANTIATE_TEST_SUITE_P(Kinds, Initialize, testing::ValuesIn(test::tiny_kinds()),
                         [](const auto& kind) { return kind.param; });

TEST(InitializeDecoder, DrawsEachTensorAtItsScale) {
  UniformModel deep = test::tiny_model("biases");
  deep.layers = 8;
  const ModelSpec spec = deep.spec();
  for (const auto& [name, tensor] : initialized(spec, 3)) {
    if (name.ends_with("norm.weight")) {
      EXPECT_TRUE(tensor.equal(at::ones_like(tensor))) << name;
    } else if (name.ends_with(".bias")) {
      EXPECT_TRUE(tensor.equal(at::zeros_like(tensor))) << name;
    } else {
      const bool residual = name.find("o_proj") != std::string::npos || name.find("down_proj") != std::string::npos;
      const double expected =
          residual ? kInitializerRange / 4 : kInitializerRange;  // 2 * 8 layers write to the residual stream
      const double numbers = static_cast<double>(tensor.numel());
      EXPECT_NEAR(tensor.std().item<double>() / expected, 1, kStandardErrors / std::sqrt(2 * numbers)) << name;
      EXPECT_NEAR(tensor.mean().item<double>() / expected, 0, kStandardErrors / std::sqrt(numbers)) << name;
    }
  }
}

TEST(InitializeDecoder, IsDecidedBySeedAndName) {
  const ModelSpec spec = test::tiny_spec("mha");
  const auto once = initialized(spec, 5), again = initialized(spec, 5), other = initialized(spec, 6);
  for (const auto& [name, tensor] : once) {
    EXPECT_TRUE(tensor.equal(again.at(name))) << name;
    if (name.ends_with("norm.weight")) continue;
    EXPECT_FALSE(tensor.equal(other.at(name))) << name;
  }
  EXPECT_FALSE(once.at("model.layers.0.mlp.gate_proj.weight").equal(once.at("model.layers.0.mlp.up_proj.weight")));
  EXPECT_FALSE(once.at("model.layers.0.mlp.up_proj.weight").equal(once.at("model.layers.1.mlp.up_proj.weight")));
}

TEST(InitializeDecoder, ScalesWithTheDeviation) {
  const ModelSpec spec = test::tiny_spec("mha");
  const Decoder narrow = initialize_decoder(spec, 5), wide = initialize_decoder(spec, 5, 2 * kInitializerRange);
  EXPECT_TRUE(wide.embedding.to_dense().equal(2 * narrow.embedding.to_dense()));
  EXPECT_TRUE(wide.layers[1].down.to_dense().equal(2 * narrow.layers[1].down.to_dense()));
  EXPECT_TRUE(wide.final_norm.equal(narrow.final_norm));
}

}  // namespace
}  // namespace mla
