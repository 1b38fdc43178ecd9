// What every low-rank strategy must do, over all registered names.
#include "core/low_rank/factorizer.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "core/base/registry.h"

namespace mla {
namespace {

using ::testing::ElementsAre;
using Factorizers = Registry<Factorizer>;

constexpr double kFullRank = 1e-10;
constexpr double kReportedDouble = 1e-12;
constexpr double kReportedSingle = 2e-6;

// Tall and wide stacks; the second layer has no position-free keys.
const FactorGeometry kTall{.layers = 2, .hidden = 20, .kv_heads = 2, .head_dim = 8, .content = {6, 0}};
const FactorGeometry kWide{.layers = 2, .hidden = 40, .kv_heads = 2, .head_dim = 8, .content = {6, 0}};

struct Weights {
  at::Tensor key, value;
};

Weights weights(std::int64_t layer, const FactorGeometry& geometry, at::ScalarType dtype) {
  const at::Generator generator = at::detail::createCPUGenerator(static_cast<std::uint64_t>(3 + layer));
  return {at::randn({geometry.nope_rows(layer), geometry.hidden}, generator, at::kDouble).to(dtype),
          at::randn({geometry.value_rows(), geometry.hidden}, generator, at::kDouble).to(dtype)};
}

Json config_with(const std::string& name, std::int64_t d_kv) {
  Json config{{"name", name}};
  if (Factorizers::instance().find(name, "low_rank").defaults.contains("d_kv")) config["d_kv"] = d_kv;
  return config;
}

at::Tensor rebuilt(const at::Tensor& up, const LatentSlice& slice, const Factorization& factors) {
  const at::Tensor latent = factors.down.narrow(0, slice.begin, slice.width);
  return up.defined() ? at::mm(up, latent) : latent;
}

double relative(const at::Tensor& difference, const at::Tensor& original) {
  const double size = original.to(at::kDouble).norm().item<double>();
  return size > 0 ? difference.to(at::kDouble).norm().item<double>() / size : 0;
}

std::int64_t elements(const at::Tensor& tensor) { return tensor.defined() ? tensor.numel() : 0; }

/// The largest d_kv that check() lets pass in every layer of `geometry`.
std::int64_t largest_d_kv(const std::string& name, FactorGeometry geometry, std::int64_t layer) {
  geometry.content.assign(2, geometry.content[static_cast<std::size_t>(layer)]);
  std::int64_t largest = 1;
  for (std::int64_t d_kv = 1; d_kv <= geometry.hidden; ++d_kv) {
    try {
      Factorizers::instance().make(config_with(name, d_kv), "low_rank")->check(geometry, "low_rank");
      largest = d_kv;
    } catch (const ConfigError&) {
      break;
    }
  }
  return largest;
}

template <class Check>
void for_all_strategies(Check check) {
  for (const std::string& name : Factorizers::instance().names()) {
    for (const FactorGeometry* geometry : {&kTall, &kWide}) {
      for (const std::int64_t layer : {0, 1}) {
        SCOPED_TRACE(cat(name, ", layer ", layer, ", hidden ", geometry->hidden));
        check(name, layer, *geometry);
      }
    }
  }
}

TEST(FactorizerContract, Names) {
  EXPECT_THAT(Factorizers::instance().names(), ElementsAre("joint_svd", "none", "split_svd", "value_svd"));
}

TEST(FactorizerContract, FullRankGivesTheWeightsBack) {
  for_all_strategies([](const std::string& name, std::int64_t layer, const FactorGeometry& geometry) {
    const auto strategy = Factorizers::instance().make(config_with(name, largest_d_kv(name, geometry, layer)), "x");
    const Weights original = weights(layer, geometry, at::kDouble);
    const std::int64_t width = strategy->latent_width(layer, geometry);
    const Factorization factors = strategy->decompose({original.key, original.value, {}}, width)->truncate(width);
    EXPECT_LT(relative(rebuilt(factors.up_key, factors.key, factors) - original.key, original.key), kFullRank);
    EXPECT_LT(relative(rebuilt(factors.up_value, factors.value, factors) - original.value, original.value), kFullRank);
    EXPECT_LT(factors.error.joint, kFullRank);
  });
}

TEST(FactorizerContract, ReportsTheTrueErrorAndItsShapes) {
  for_all_strategies([](const std::string& name, std::int64_t layer, const FactorGeometry& geometry) {
    for (const at::ScalarType dtype : {at::kDouble, at::kFloat}) {
      const double tolerance = dtype == at::kDouble ? kReportedDouble : kReportedSingle;
      const Weights original = weights(layer, geometry, dtype);
      for (std::int64_t d_kv = 1; d_kv <= largest_d_kv(name, geometry, layer); ++d_kv) {
        const auto strategy = Factorizers::instance().make(config_with(name, d_kv), "x");
        const std::int64_t width = strategy->latent_width(layer, geometry);
        const Factorization factors = strategy->decompose({original.key, original.value, {}}, width)->truncate(width);
        EXPECT_EQ(factors.down.sizes(), (std::vector<std::int64_t>{width, geometry.hidden}));
        EXPECT_EQ(factors.down.scalar_type(), dtype);
        EXPECT_EQ(elements(factors.down) + elements(factors.up_key) + elements(factors.up_value),
                  strategy->parameters(layer, geometry));
        const at::Tensor key = rebuilt(factors.up_key, factors.key, factors);
        const at::Tensor value = rebuilt(factors.up_value, factors.value, factors);
        EXPECT_EQ(key.sizes(), original.key.sizes());
        EXPECT_NEAR(factors.error.key, relative(key - original.key, original.key), tolerance);
        EXPECT_NEAR(factors.error.value, relative(value - original.value, original.value), tolerance);
        const at::Tensor stacked = at::cat({original.key, original.value});
        EXPECT_NEAR(factors.error.joint, relative(at::cat({key, value}) - stacked, stacked), tolerance);
      }
    }
  });
}

TEST(FactorizerContract, CutsOneDecompositionToEveryWidth) {
  for_all_strategies([](const std::string& name, std::int64_t layer, const FactorGeometry& geometry) {
    const Weights original = weights(layer, geometry, at::kDouble);
    const auto largest = Factorizers::instance().make(config_with(name, largest_d_kv(name, geometry, layer)), "x");
    const auto once = largest->decompose({original.key, original.value, {}}, largest->latent_width(layer, geometry));
    double before = -1;
    for (std::int64_t d_kv = largest_d_kv(name, geometry, layer); d_kv >= 1; --d_kv) {
      const auto strategy = Factorizers::instance().make(config_with(name, d_kv), "x");
      const std::int64_t width = strategy->latent_width(layer, geometry);
      const Factorization cut = once->truncate(width);
      const Factorization direct = strategy->decompose({original.key, original.value, {}}, width)->truncate(width);
      EXPECT_TRUE(at::allclose(cut.down, direct.down, kFullRank, kFullRank));
      EXPECT_EQ(cut.key, direct.key);
      EXPECT_EQ(cut.value, direct.value);
      EXPECT_NEAR(cut.error.joint, direct.error.joint, kFullRank);
      EXPECT_GE(cut.error.joint, before - kFullRank) << "a narrower latent cannot be better";
      before = cut.error.joint;
    }
  });
}

/// Inputs that prefer some directions by far, fewer than there are, and the moment of as many again.
at::Tensor skewed_moment(std::int64_t hidden) {
  const at::Generator generator = at::detail::createCPUGenerator(9);
  const at::Tensor scale = at::pow(0.8, at::arange(hidden, at::kDouble));
  const at::Tensor inputs = at::mm(at::randn({hidden - 3, hidden}, generator, at::kDouble) * scale,
                                   at::randn({hidden, hidden}, generator, at::kDouble));
  return at::mm(inputs.t(), inputs) / static_cast<double>(inputs.size(0));
}

/// E|(W - up down) x|^2 over inputs of this moment, keys and values together.
double output_error(const Weights& original, const Factorization& factors, const at::Tensor& moment) {
  const at::Tensor left = at::cat({original.key - rebuilt(factors.up_key, factors.key, factors),
                                   original.value - rebuilt(factors.up_value, factors.value, factors)});
  return at::trace(at::mm(at::mm(left, moment), left.t())).item<double>();
}

TEST(FactorizerContract, TheMetricOutputsLosesNoMoreOfOutputsThanThePlainOne) {
  for_all_strategies([](const std::string& name, std::int64_t layer, const FactorGeometry& geometry) {
    if (!Factorizers::instance().find(name, "x").defaults.contains("metric")) return;
    const Weights original = weights(layer, geometry, at::kDouble);
    const at::Tensor moment = skewed_moment(geometry.hidden);
    const std::int64_t largest = largest_d_kv(name, geometry, layer);
    Json outputs = config_with(name, largest);
    outputs["metric"] = "outputs";
    const auto plain = Factorizers::instance().make(config_with(name, largest), "x"),
               measured = Factorizers::instance().make(outputs, "x");
    EXPECT_FALSE(plain->needs_input_moment());
    EXPECT_TRUE(measured->needs_input_moment());
    EXPECT_NE(plain->sharing_key(), measured->sharing_key());
    const std::int64_t width = plain->latent_width(layer, geometry);
    const auto by_weights = plain->decompose({original.key, original.value, {}}, width),
               by_outputs = measured->decompose({original.key, original.value, moment}, width);
    const double scale = output_error(original,
                                      {at::zeros({width, geometry.hidden}, at::kDouble),
                                       at::zeros({original.key.size(0), width}, at::kDouble),
                                       at::zeros({original.value.size(0), width}, at::kDouble),
                                       {0, width},
                                       {0, width},
                                       {},
                                       {},
                                       {}},
                                      moment);
    const std::int64_t least = plain->compresses_keys() ? 1 : original.key.size(0) + 1;
    double before = -1;
    bool better = false;
    for (std::int64_t cut = width; cut >= least; --cut) {
      const double found = output_error(original, by_outputs->truncate(cut), moment),
                   usual = output_error(original, by_weights->truncate(cut), moment);
      EXPECT_LE(found, usual + kFullRank * scale) << cut;
      better = better || found < 0.9 * usual;
      EXPECT_GE(by_outputs->error(cut), before - kFullRank);
      before = by_outputs->error(cut);
    }
    EXPECT_TRUE(better) << "inputs that prefer some directions must make a difference";
    EXPECT_LT(by_outputs->truncate(width).error.joint, 1e-6) << "all that there is";
  });
}

TEST(FactorizerContract, EveryWidthWithinBoundsCanBeCut) {
  for_all_strategies([](const std::string& name, std::int64_t layer, const FactorGeometry& geometry) {
    const auto strategy = Factorizers::instance().make(config_with(name, 1), "x");
    const WidthBounds bounds = strategy->bounds(layer, geometry);
    ASSERT_LE(bounds.least, bounds.most);
    const Weights original = weights(layer, geometry, at::kDouble);
    const auto whole = strategy->decompose({original.key, original.value, {}}, bounds.most);
    double before = -1;
    for (std::int64_t width = bounds.most; width >= bounds.least; --width) {
      const Factorization cut = whole->truncate(width);
      EXPECT_EQ(cut.down.size(0), width);
      EXPECT_NEAR(whole->error(width),
                  cut.error.joint * (strategy->compresses_keys() || cut.error.joint == 0
                                         ? 1
                                         : at::cat({original.key, original.value}).norm().item<double>() /
                                               original.value.norm().item<double>()),
                  kFullRank);
      EXPECT_GE(whole->error(width), before - kFullRank);
      before = whole->error(width);
    }
    EXPECT_LT(whole->error(bounds.most), kFullRank);
  });
}

TEST(FactorizerContract, IdentityKeysGoWithKeysThatAreNotCompressed) {
  for_all_strategies([](const std::string& name, std::int64_t layer, const FactorGeometry& geometry) {
    const auto strategy = Factorizers::instance().make(config_with(name, 2), "x");
    const Weights original = weights(layer, geometry, at::kDouble);
    const std::int64_t width = strategy->latent_width(layer, geometry);
    const Factorization factors = strategy->decompose({original.key, original.value, {}}, width)->truncate(width);
    EXPECT_EQ(factors.up_key.defined(), strategy->compresses_keys());
  });
}

}  // namespace
}  // namespace mla
