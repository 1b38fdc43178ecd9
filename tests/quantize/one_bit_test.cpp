// Weights of one bit: groups, values, errors, and what cannot be encoded.
#include "core/quantize/one_bit.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <set>

#include "core/base/error.h"
#include "core/base/registry.h"
#include "core/ops/one_bit_rows.h"
#include "core/quantize/codec.h"
#include "core/quantize/one_bit_search.h"
#include "tests/support/errors.h"
#include "tests/support/random_tensors.h"

namespace mla {
namespace {

using testing::HasSubstr;

constexpr double kSameSquares = 1e-9;
// Of Gaussian numbers, as shares of their energy: one sign loses 1 - 2 / pi, two 0.1175 (both for endless rows).
constexpr double kOneSign = 0.3634, kTwoSigns = 0.1175, kFiniteRows = 0.03;

/// Inputs whose dims depend on each other and differ in size.
at::Tensor skewed_hessian(std::int64_t columns) {
  const at::Tensor mix = test::normal({columns, columns}, at::kDouble, 5) / 8 + at::eye(columns, at::kDouble),
                   sizes = at::linspace(0.2, 3, columns, at::kDouble);
  const at::Tensor x = at::mm(test::normal({4 * columns, columns}, at::kDouble, 6) * sizes, mix);
  return 2 * at::mm(x.t(), x) / static_cast<double>(x.size(0));
}

double error_share(const at::Tensor& weight, const at::Tensor& values) {
  return ((weight - values).square().sum() / weight.square().sum()).item<double>();
}

double lost_output(const at::Tensor& weight, const at::Tensor& values, const at::Tensor& hessian) {
  const at::Tensor error = (weight - values).to(at::kDouble);
  return (at::mm(error, hessian) * error).sum().item<double>();
}

at::Tensor one_bit_values(const at::Tensor& weight, const at::Tensor& hessian, const OneBitOptions& options) {
  return decode_one_bit(one_bit(weight, hessian, options), options.block);
}

at::Tensor rounded_to_nearest(const at::Tensor& weight, int bits, std::int64_t group) {
  const auto codec =
      Registry<Codec>::instance().make({{"name", "rtn"}, {"bits", bits}, {"group_size", group}}, "codec");
  return decode(codec->encode(weight));
}

std::vector<OneBitOptions> several_options() {
  std::vector<OneBitOptions> all(9);
  all[1].block = 64;
  all[2].metric = Saliency::kMagnitude;
  all[3].compensate = false;
  all[4].centred = false;
  all[5].search = SearchedMatrix::kWeights;
  all[5].diagonal = SaliencyDiagonal::kInverse;
  all[5].break_points = BreakPoints::kFractions;
  all[6].scales = at::kHalf;
  all[7].most_salient = 0;
  all[8].block = 40;  // of 150 columns, 30 are left
  all[8].most_salient = 500;
  return all;
}

TEST(OneBit, ElementsHaveAFewValuesInEachRowAndBlock) {
  const at::Tensor weight = test::normal({20, 150}, at::kFloat, 1), hessian = skewed_hessian(150);
  for (const OneBitOptions& options : several_options()) {
    const OneBitMatrix made = one_bit(weight, hessian, options);
    const at::Tensor values = decode_one_bit(made, options.block);
    ASSERT_TRUE(values.isfinite().all().item<bool>());
    EXPECT_EQ(std::ssize(made.break_points), (150 + options.block - 1) / options.block);
    for (std::int64_t first = 0; first < 150; first += options.block) {
      const std::int64_t columns = std::min(options.block, 150 - first);
      const at::Tensor salient = made.salient.narrow(0, first, columns) == 1;
      const std::int64_t most = std::min(options.most_salient, columns - 1);
      EXPECT_LE(salient.sum().item<std::int64_t>(), most);
      EXPECT_EQ(salient.any().item<bool>(), most > 0);
      for (std::int64_t row = 0; row < 20; ++row) {
        const auto count = [&](const at::Tensor& of) {
          const at::Tensor own = values[row].narrow(0, first, columns).masked_select(of).contiguous();
          return std::set<float>(own.const_data_ptr<float>(), own.const_data_ptr<float>() + own.numel()).size();
        };
        EXPECT_LE(count(salient), 4u);
        EXPECT_LE(count(salient.logical_not()), 4u);
      }
    }
  }
}

TEST(OneBit, LargeElementsAreThoseFromTheBreakOn) {
  const at::Tensor weight = test::normal({16, 128}, at::kFloat, 2);
  OneBitOptions options;
  options.metric = Saliency::kMagnitude;
  const OneBitMatrix made = one_bit(weight, {}, options);
  const at::Tensor rest = (made.salient == 0).expand_as(weight);
  EXPECT_TRUE(at::equal((made.seconds == 1).masked_select(rest),
                        (weight.abs().to(at::kDouble) >= made.break_points[0]).masked_select(rest)));
}

TEST(OneBit, SignsAreBestForTheirGroups) {
  const at::Tensor x = test::normal({500}, at::kDouble, 3) + 0.3;
  const Binarised made = binarise(x.const_data_ptr<double>(), 500, true);
  double squares = 0;
  for (std::int64_t i = 0; i < 500; ++i) {
    const double value = x[i].item<double>();
    squares += (value - made.value(value)) * (value - made.value(value));
  }
  EXPECT_NEAR(made.error, squares, kSameSquares * squares);
  // No other scale loses less.
  for (const double factor : {0.98, 1.02}) {
    Binarised other = made;
    other.scale *= factor;
    double more = 0;
    for (std::int64_t i = 0; i < 500; ++i) {
      const double value = x[i].item<double>();
      more += (value - other.value(value)) * (value - other.value(value));
    }
    EXPECT_GT(more, squares);
  }
  EXPECT_EQ(binarise(nullptr, 0, true).error, 0);
}

TEST(OneBit, GaussianWeightsLoseWhatTheoryHas) {
  const at::Tensor weight = test::normal({64, 512}, at::kFloat, 4);
  OneBitOptions options;
  options.block = 512;
  options.metric = Saliency::kMagnitude;
  const double both = error_share(weight, one_bit_values(weight, {}, options));
  EXPECT_LT(both, kOneSign - 0.15);
  EXPECT_GT(both, kTwoSigns - kFiniteRows);
  // One group alone: the break below everything is among the fractions only where all elements are alike.
  const at::Tensor alike = weight.sign() * 2 + 0.5;
  EXPECT_LT(error_share(alike, one_bit_values(alike, {}, options)), 1e-10);
}

TEST(OneBit, LosesFarLessThanOneBitRoundedToNearest) {
  const at::Tensor weight = test::normal({48, 256}, at::kFloat, 7), hessian = skewed_hessian(256);
  for (const bool compensate : {true, false}) {
    OneBitOptions options;
    options.compensate = compensate;
    const at::Tensor values = one_bit_values(weight, hessian, options);
    const auto rounded = [&](int bits) { return lost_output(weight, rounded_to_nearest(weight, bits, 128), hessian); };
    EXPECT_LT(lost_output(weight, values, hessian), 0.3 * rounded(1));
    EXPECT_GT(lost_output(weight, values, hessian), rounded(4));
  }
}

TEST(OneBit, CompensationLowersTheOutputErrorWhereInputsDependOnEachOther) {
  const at::Tensor weight = test::normal({48, 256}, at::kFloat, 8);
  // All columns move together but for a little: what one loses, another can make up for.
  const at::Tensor x = test::normal({1024, 1}, at::kDouble, 9) + 0.3 * test::normal({1024, 256}, at::kDouble, 10);
  const at::Tensor hessian = at::mm(x.t(), x);
  OneBitOptions options;
  options.metric = Saliency::kMagnitude;
  options.block = 32;
  const at::Tensor with = one_bit_values(weight, hessian, options);
  options.compensate = false;
  const at::Tensor without = one_bit_values(weight, hessian, options);
  EXPECT_LT(lost_output(weight, with, hessian), 0.7 * lost_output(weight, without, hessian));
  EXPECT_GT(error_share(weight, with), error_share(weight, without));
}

TEST(OneBit, OnlyTheShapeOfTheHessianMatters) {
  const at::Tensor weight = test::normal({16, 128}, at::kFloat, 11), hessian = skewed_hessian(128);
  for (const SaliencyDiagonal diagonal : {SaliencyDiagonal::kCholesky, SaliencyDiagonal::kInverse}) {
    OneBitOptions options;
    options.block = 64;
    options.diagonal = diagonal;
    const at::Tensor values = one_bit_values(weight, hessian, options);
    EXPECT_TRUE(at::equal(one_bit_values(weight, 1024 * hessian, options), values));
    EXPECT_TRUE(at::equal(one_bit_values(weight.to(at::kDouble), hessian, options), values));
  }
  // Inputs that do not depend on each other: nothing can be made up for.
  OneBitOptions plain;
  plain.compensate = false;
  plain.damping = 1e-12;
  OneBitOptions compensated = plain;
  compensated.compensate = true;
  const at::Tensor white = at::eye(128, at::kDouble);
  EXPECT_TRUE(at::equal(one_bit_values(weight, white, compensated), one_bit_values(weight, {}, plain)));
}

TEST(OneBit, ColumnsThatNothingReachesAreZeroBeforehand) {
  const at::Tensor weight = test::normal({8, 64}, at::kFloat, 12);
  at::Tensor hessian = skewed_hessian(64);
  hessian[5].zero_();
  hessian.select(1, 5).zero_();
  at::Tensor zeroed = weight.clone();
  zeroed.select(1, 5).zero_();
  OneBitOptions options;
  options.block = 64;
  EXPECT_TRUE(at::equal(one_bit_values(weight, hessian, options), one_bit_values(zeroed, hessian, options)));
  EXPECT_TRUE(one_bit_values(weight, at::zeros({64, 64}, at::kDouble), options).eq(0).all().item<bool>());
}

TEST(OneBit, GroupsAboutZeroAreSymmetric) {
  const at::Tensor weight = test::normal({8, 64}, at::kFloat, 13) + 0.5;
  OneBitOptions options;
  options.block = 64;
  options.centred = false;
  const OneBitMatrix made = one_bit(weight, {}, options);
  EXPECT_EQ(made.scales.size(2), kOneBitScales);
  EXPECT_TRUE(at::equal(decode_one_bit(made, 64).abs(), one_bit_values(-weight, {}, options).abs()));
  options.centred = true;
  EXPECT_EQ(one_bit(weight, {}, options).scales.size(2), kCentredOneBitScales);
}

TEST(OneBit, OddSizesAreEncoded) {
  for (const std::int64_t columns : {1, 2, 7, 9, 129}) {
    const at::Tensor weight = test::normal({3, columns}, at::kFloat, 14), hessian = skewed_hessian(columns);
    const at::Tensor values = one_bit_values(weight, hessian, {});
    EXPECT_EQ(values.sizes(), weight.sizes());
    EXPECT_TRUE(values.isfinite().all().item<bool>()) << columns;
    if (columns == 1) {
      EXPECT_TRUE(at::equal(values, weight));  // a mean of its own
    }
  }
}

TEST(OneBit, LevelsAreSumsOfScales) {
  const float scales[] = {1, 2, 4, 0.5F, 10, 20, 30};
  float levels[8];
  one_bit_levels(scales, false, levels);
  EXPECT_THAT(levels, testing::ElementsAre(-1, 1, -2, 2, -4.5F, 3.5F, -3.5F, 4.5F));
  one_bit_levels(scales, true, levels);
  EXPECT_THAT(levels, testing::ElementsAre(9, 11, 18, 22, 25.5F, 33.5F, 26.5F, 34.5F));
}

TEST(OneBit, RefusesWhatHasNoCode) {
  at::Tensor weight = test::normal({4, 16}, at::kFloat, 15);
  OneBitOptions narrow;
  narrow.scales = at::kHalf;
  EXPECT_THAT(test::message_of<DataError>([&] { one_bit(1e6 * weight, {}, narrow); }), HasSubstr("is beyond float16"));
  EXPECT_NO_THROW(one_bit(1e6 * weight, {}, {}));
  weight[2][3] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THAT(test::message_of<DataError>([&] { one_bit(weight, {}, {}); }), HasSubstr("element [2, 3] = nan"));
  const at::Tensor indefinite = -at::eye(16, at::kDouble);
  EXPECT_THAT(test::message_of<DataError>([&] {
                one_bit(at::ones({2, 16}), indefinite, {});
              }),
              HasSubstr("no Cholesky factor; more damping may help"));
}

}  // namespace
}  // namespace mla
