#include "core/low_rank/factorizer.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/error.h"
#include "core/base/registry.h"
#include "tests/linalg/matrices.h"

namespace mla {
namespace {

using test::best_error;
using test::distance_from_orthonormal;
using test::frobenius;
using test::reference_singular_values;
using ::testing::HasSubstr;

constexpr double kExact = 1e-12;

// Two layers: the first keeps 1 of 4 pairs, the second all of them, so that it has no position-free keys.
const FactorGeometry kFactorGeometry{.layers = 2, .hidden = 24, .kv_heads = 2, .head_dim = 8, .content = {6, 0}};

at::Tensor random_matrix(std::int64_t rows, std::uint64_t seed) {
  return at::randn({rows, kFactorGeometry.hidden}, at::detail::createCPUGenerator(seed), at::kDouble);
}

std::unique_ptr<Factorizer> factorizer(const Json& config) {
  return Registry<Factorizer>::instance().make(config, "compress[0].low_rank");
}

Factorization factorize(const Json& config, const at::Tensor& key, const at::Tensor& value, std::int64_t width) {
  return factorizer(config)->decompose({key, value, {}}, width)->truncate(width);
}

std::string factorizer_mistake(const Json& config, const FactorGeometry& geometry = kFactorGeometry) {
  try {
    factorizer(config)->check(geometry, "compress[0].low_rank");
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "no ConfigError";
}

at::Tensor product(const at::Tensor& up, const Factorization& factors, const LatentSlice& slice) {
  return at::mm(up, factors.down.narrow(0, slice.begin, slice.width));
}

class LowRank : public ::testing::Test {
 protected:
  const at::Tensor key_ = random_matrix(kFactorGeometry.nope_rows(0), 1),
                   value_ = random_matrix(kFactorGeometry.value_rows(), 2);
};

TEST_F(LowRank, JointIsTheBestApproximationOfTheStackedMatrix) {
  const Factorization factors = factorize({{"name", "joint_svd"}}, key_, value_, 6);
  const at::Tensor stacked = at::cat({key_, value_});
  EXPECT_NEAR(factors.error.joint, best_error(reference_singular_values(stacked), 6) / frobenius(stacked), kExact);
  EXPECT_EQ(factors.key, (LatentSlice{0, 6}));
  EXPECT_EQ(factors.value, (LatentSlice{0, 6}));
  const std::vector<double> values = reference_singular_values(stacked);
  ASSERT_EQ(factors.singular_values.size(), 6U);
  for (std::size_t i = 0; i < 6; ++i) EXPECT_NEAR(factors.singular_values[i], values[i], kExact * values[0]);
}

TEST_F(LowRank, SplitIsTheBestApproximationOfEachMatrix) {
  const Factorization factors = factorize({{"name", "split_svd"}}, key_, value_, 7);
  EXPECT_EQ(factors.key, (LatentSlice{0, 3}));
  EXPECT_EQ(factors.value, (LatentSlice{3, 4}));  // V gets the odd one
  EXPECT_NEAR(factors.error.key, best_error(reference_singular_values(key_), 3) / frobenius(key_), kExact);
  EXPECT_NEAR(factors.error.value, best_error(reference_singular_values(value_), 4) / frobenius(value_), kExact);
  EXPECT_EQ(factors.singular_values.size(), 3U);
  EXPECT_EQ(factors.value_singular_values.size(), 4U);
}

TEST_F(LowRank, JointIsNeverWorseThanSplitAtEqualCache) {
  for (std::int64_t width = 1; width <= 24; ++width) {
    const Factorization joint = factorize({{"name", "joint_svd"}}, key_, value_, width);
    const Factorization split = factorize({{"name", "split_svd"}}, key_, value_, width);
    EXPECT_EQ(joint.down.sizes(), split.down.sizes());
    EXPECT_LE(joint.error.joint, split.error.joint + kExact) << width;
  }
}

TEST_F(LowRank, PlacementsMoveTheSingularValuesAndNothingElse) {
  const Factorization up = factorize({{"name", "joint_svd"}, {"placement", "up"}}, key_, value_, 6);
  EXPECT_LT(distance_from_orthonormal(up.down), kExact);
  const Factorization down = factorize({{"name", "joint_svd"}, {"placement", "down"}}, key_, value_, 6);
  EXPECT_LT(distance_from_orthonormal(at::cat({down.up_key, down.up_value}).t()), kExact);
  const Factorization half = factorize({{"name", "joint_svd"}, {"placement", "sqrt"}}, key_, value_, 6);
  const at::Tensor down_lengths = half.down.square().sum(1);
  const at::Tensor up_lengths = at::cat({half.up_key, half.up_value}).square().sum(0);
  EXPECT_TRUE(at::allclose(down_lengths, up_lengths, kExact, kExact));
  EXPECT_TRUE(at::allclose(down_lengths, at::tensor(half.singular_values, at::kDouble), kExact, kExact));
  for (const Factorization* moved : {&down, &half}) {
    EXPECT_TRUE(
        at::allclose(product(moved->up_key, *moved, moved->key), product(up.up_key, up, up.key), kExact, kExact));
    EXPECT_TRUE(at::allclose(product(moved->up_value, *moved, moved->value), product(up.up_value, up, up.value), kExact,
                             kExact));
  }
}

TEST_F(LowRank, PlacementsStayFiniteForAZeroMatrix) {
  for (const char* placement : {"up", "sqrt", "down"}) {
    const Factorization factors =
        factorize({{"name", "joint_svd"}, {"placement", placement}}, at::zeros_like(key_), at::zeros_like(value_), 4);
    EXPECT_TRUE(factors.down.isfinite().all().item<bool>()) << placement;
    EXPECT_EQ(frobenius(factors.up_key) + frobenius(factors.up_value), 0) << placement;
    EXPECT_EQ(factors.error.joint, 0) << placement;
  }
}

TEST_F(LowRank, SplitMovesWhatOneMatrixCannotUse) {
  const at::Tensor short_key = random_matrix(2, 3);
  EXPECT_EQ(factorize({{"name", "split_svd"}}, short_key, value_, 10).key, (LatentSlice{0, 2}));
  EXPECT_EQ(factorize({{"name", "split_svd"}}, short_key, value_, 10).value, (LatentSlice{2, 8}));
  const at::Tensor short_value = random_matrix(3, 4);
  EXPECT_EQ(factorize({{"name", "split_svd"}}, key_, short_value, 10).key, (LatentSlice{0, 7}));
}

TEST_F(LowRank, SplitBudgetEachDoublesTheCache) {
  const auto total = factorizer({{"name", "split_svd"}, {"d_kv", 4}});
  const auto each = factorizer({{"name", "split_svd"}, {"d_kv", 4}, {"split_budget", "each"}});
  const auto joint = factorizer({{"name", "joint_svd"}, {"d_kv", 4}});
  EXPECT_EQ(total->latent_width(0, kFactorGeometry), joint->latent_width(0, kFactorGeometry));
  EXPECT_EQ(each->latent_width(0, kFactorGeometry), 2 * joint->latent_width(0, kFactorGeometry));
  EXPECT_EQ(each->latent_width(1, kFactorGeometry),
            joint->latent_width(1, kFactorGeometry));  // no position-free keys there
}

TEST_F(LowRank, ValueSvdLeavesKeysAlone) {
  const std::int64_t keys = key_.size(0);
  const Factorization factors = factorize({{"name", "value_svd"}}, key_, value_, keys + 5);
  EXPECT_FALSE(factors.up_key.defined());
  EXPECT_TRUE(at::equal(factors.down.narrow(0, 0, keys), key_));
  EXPECT_EQ(factors.error.key, 0);
  EXPECT_NEAR(factors.error.value, best_error(reference_singular_values(value_), 5) / frobenius(value_), kExact);
}

TEST_F(LowRank, CloseApproximationsReportTheirSmallErrors) {
  // The difference of energies alone could not tell 1e-5 of a float32 matrix from rounding.
  const at::Tensor base = at::mm(random_matrix(28, 5).narrow(1, 0, 4), random_matrix(4, 6));
  const at::Tensor weights = (base + 1e-5 * random_matrix(28, 7)).to(at::kFloat);
  const at::Tensor key = weights.narrow(0, 0, 12), value = weights.narrow(0, 12, 16);
  for (const char* name : {"joint_svd", "split_svd"}) {
    const Factorization factors = factorize({{"name", name}}, key, value, name[0] == 'j' ? 4 : 8);
    const double found = frobenius(value - product(factors.up_value, factors, factors.value)) / frobenius(value);
    EXPECT_NEAR(factors.error.value, found, 1e-6 * found) << name;
    EXPECT_LT(found, 1e-4) << name;
  }
}

TEST_F(LowRank, RandomizedReportsItsOwnError) {
  const Json config{{"name", "joint_svd"},
                    {"svd", {{"method", "randomized"}, {"power_iterations", 0}, {"oversampling", 0}}}};
  const Factorization factors = factorize(config, key_, value_, 5);
  const at::Tensor stacked = at::cat({key_, value_});
  const at::Tensor approximation = at::mm(at::cat({factors.up_key, factors.up_value}), factors.down);
  EXPECT_NEAR(factors.error.joint, frobenius(stacked - approximation) / frobenius(stacked), kExact);
  EXPECT_GT(factors.error.joint, best_error(reference_singular_values(stacked), 5) / frobenius(stacked) + 1e-4);
}

TEST_F(LowRank, WidthsBeyondTheRankAreConfigErrors) {
  EXPECT_THAT(
      factorizer_mistake({{"name", "joint_svd"}, {"d_kv", {4, 9}}}),
      HasSubstr("compress[0].low_rank.d_kv[1] = 9: the latent would have 18 elements but [K_nope; V] has rank at "
                "most 16 (0 + 16 rows, hidden 24)"));
  EXPECT_THAT(factorizer_mistake({{"name", "joint_svd"}, {"d_kv", 13}}),
              HasSubstr("at most 24 (12 + 16 rows, hidden 24)"));
  EXPECT_EQ(factorizer_mistake({{"name", "joint_svd"}, {"d_kv", 8}}), "no ConfigError");
  EXPECT_THAT(factorizer_mistake({{"name", "split_svd"}, {"d_kv", 15}}),
              HasSubstr("the latent would have 12 + 18 elements but K_nope has rank at most 12 and V 16"));
  EXPECT_EQ(factorizer_mistake({{"name", "split_svd"}, {"d_kv", {14, 8}}}), "no ConfigError");
  EXPECT_THAT(factorizer_mistake({{"name", "split_svd"}, {"d_kv", 7}, {"split_budget", "each"}}),
              HasSubstr("14 + 14 elements"));
  EXPECT_THAT(factorizer_mistake({{"name", "value_svd"}, {"d_kv", 9}}),
              HasSubstr("18 elements but V has rank at most 16"));
  for (const char* name : {"joint_svd", "split_svd", "value_svd"}) {
    EXPECT_THAT(factorizer_mistake({{"name", name}, {"d_kv", 0}}), HasSubstr("d_kv = 0: must be at least 1")) << name;
    EXPECT_THAT(factorizer_mistake({{"name", name}, {"d_kv", {1, 1, 1}}}), HasSubstr("the model has 2 layers")) << name;
  }
}

TEST_F(LowRank, OptionsNameTheMistake) {
  EXPECT_THAT(factorizer_mistake({{"name", "joint_svd"}, {"placement", "upp"}}),
              HasSubstr("low_rank.placement: no 'upp'"));
  EXPECT_THAT(factorizer_mistake({{"name", "split_svd"}, {"split_budget", "both"}}),
              HasSubstr("low_rank.split_budget: no 'both'"));
  EXPECT_THAT(factorizer_mistake({{"name", "value_svd"}, {"svd", {{"method", "qr"}}}}),
              HasSubstr("low_rank.svd.method: no 'qr'"));
}

}  // namespace
}  // namespace mla
