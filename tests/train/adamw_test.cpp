// The fused AdamW kernel against the formula written out.
#include "core/train/adamw.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "core/base/error.h"
#include "core/base/random.h"
#include "tests/support/errors.h"
#include "tests/support/tiny_models.h"

namespace mla {
namespace {

constexpr double kDoubleRounding = 1e-14;
constexpr double kFloatRounding = 1e-6;
constexpr int kSteps = 7;

at::Tensor random_tensor(RandomStream& stream, std::vector<std::int64_t> shape) {
  at::Tensor tensor = at::empty(shape, at::kDouble);
  for (std::int64_t i = 0; i < tensor.numel(); ++i) tensor.mutable_data_ptr<double>()[i] = stream.normal();
  return tensor;
}

/// One parameter's AdamW, element by element.
struct Reference {
  at::Tensor parameter, mean, mean_square;
  double decay;

  void step(const at::Tensor& gradient, int t, double rate, const AdamWOptions& o) {
    double* p = parameter.mutable_data_ptr<double>();
    double* m = mean.mutable_data_ptr<double>();
    double* v = mean_square.mutable_data_ptr<double>();
    const double* g = gradient.const_data_ptr<double>();
    for (std::int64_t i = 0; i < parameter.numel(); ++i) {
      m[i] = o.beta1 * m[i] + (1 - o.beta1) * g[i];
      v[i] = o.beta2 * v[i] + (1 - o.beta2) * g[i] * g[i];
      const double mean_hat = m[i] / (1 - std::pow(o.beta1, t)), square_hat = v[i] / (1 - std::pow(o.beta2, t));
      p[i] = (1 - rate * decay) * p[i] - rate * mean_hat / (std::sqrt(square_hat) + o.epsilon);
    }
  }
};

class AdamWFormula : public testing::TestWithParam<at::ScalarType> {};

TEST_P(AdamWFormula, MatricesDecayAndVectorsDoNot) {
  const at::ScalarType dtype = GetParam();
  RandomStream stream(3, "adamw");
  AdamWOptions options;
  options.weight_decay = 0.3;
  std::vector<Reference> references;
  NamedTensors parameters;
  // 37 is no multiple of a vector register: the kernel's tail is reached too.
  for (const std::vector<std::int64_t>& shape : {std::vector<std::int64_t>{5, 37}, {37}, {3, 4}, {1}}) {
    const at::Tensor start = random_tensor(stream, shape);
    references.push_back({start.clone(), at::zeros_like(start), at::zeros_like(start), shape.size() > 1 ? 0.3 : 0.0});
    parameters.emplace_back(cat("p", parameters.size()), start.to(dtype).requires_grad_(true));
  }
  AdamW optimizer(parameters, options);
  for (int t = 1; t <= kSteps; ++t) {
    const double rate = 0.01 * t;
    for (std::size_t i = 0; i < references.size(); ++i) {
      const at::Tensor gradient = random_tensor(stream, references[i].parameter.sizes().vec());
      parameters[i].second.mutable_grad() = gradient.to(dtype);
      references[i].step(gradient, t, rate, options);
    }
    optimizer.step(rate);
  }
  for (std::size_t i = 0; i < references.size(); ++i) {
    EXPECT_LT(test::largest_difference(parameters[i].second.detach(), references[i].parameter),
              dtype == at::kDouble ? kDoubleRounding : kFloatRounding);
  }
}

INSTANTIATE_TEST_SUITE_P(Dtypes, AdamWFormula, testing::Values(at::kDouble, at::kFloat),
                         [](const auto& test) { return std::string(c10::toString(test.param)); });

TEST(AdamW, LeavesParametersWithoutGradientAlone) {
  const NamedTensors parameters{{"with", at::ones({2, 2}).requires_grad_(true)},
                                {"without", at::ones({2, 2}).requires_grad_(true)}};
  parameters[0].second.mutable_grad() = at::ones({2, 2});
  AdamW(parameters, {}).step(0.1);
  EXPECT_TRUE(parameters[1].second.equal(at::ones({2, 2})));
  EXPECT_FALSE(parameters[0].second.equal(at::ones({2, 2})));
}

TEST(AdamW, ContinuesFromItsState) {
  const auto run = [](AdamW& optimizer, const NamedTensors& parameters, int from, int to) {
    for (int t = from; t < to; ++t) {
      parameters[0].second.mutable_grad() = at::full({2, 3}, 1.0 / (t + 1));
      optimizer.step(0.01);
    }
  };
  const NamedTensors whole{{"p", at::ones({2, 3}).requires_grad_(true)}};
  AdamW uninterrupted(whole, {});
  run(uninterrupted, whole, 0, 6);

  const NamedTensors parts{{"p", at::ones({2, 3}).requires_grad_(true)}};
  AdamW first(parts, {});
  run(first, parts, 0, 3);
  std::map<std::string, at::Tensor> state;
  for (const auto& [name, tensor] : first.state()) state[name] = tensor.clone();
  run(first, parts, 3, 4);
  const NamedTensors again{{"p", at::ones({2, 3}).requires_grad_(true)}};
  AdamW replay(again, {});
  run(replay, again, 0, 3);
  AdamW second(again, {});
  second.restore(state);
  run(second, again, 3, 6);
  EXPECT_TRUE(again[0].second.equal(whole[0].second));
}

TEST(AdamW, RefusesAStateThatDoesNotFit) {
  AdamW optimizer({{"p", at::ones({2, 3}).requires_grad_(true)}}, {});
  EXPECT_EQ(test::message_of<DataError>([&] {
              optimizer.restore({{"step", at::zeros({})}});
            }),
            "training state: tensor p.mean is missing");
  EXPECT_EQ(test::message_of<DataError>([&] {
              optimizer.restore({{"step", at::zeros({})}, {"p.mean", at::zeros({3, 2})}});
            }),
            "training state: p.mean: expected shape [2, 3], found [3, 2]");
}

TEST(AdamW, RefusesImpossibleOptions) {
  const auto message = [](AdamWOptions options) {
    return test::message_of<ConfigError>([&] { options.validate("optimizer"); });
  };
  EXPECT_EQ(message({}), "no error");
  EXPECT_EQ(message({.beta1 = 1}), "optimizer.beta1: 1 is outside 0 <= beta < 1");
  EXPECT_EQ(message({.epsilon = 0}), "optimizer.epsilon: 0 is not positive");
  EXPECT_EQ(message({.weight_decay = -0.1}), "optimizer.weight_decay: -0.1 is negative");
}

}  // namespace
}  // namespace mla
