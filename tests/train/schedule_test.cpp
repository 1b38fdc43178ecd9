// The learning-rate schedule against the formulas it is documented with.
#include "core/train/schedule.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "core/base/error.h"
#include "core/base/fields.h"
#include "tests/support/errors.h"

namespace mla {
namespace {

constexpr double kScheduleRounding = 1e-15;

ScheduleOptions phases(ScheduleShape shape, std::int64_t warmup, std::int64_t decay) {
  ScheduleOptions options;
  options.shape = shape;
  options.warmup_steps = warmup;
  options.decay_steps = decay;
  return options;
}

// The fine-tuning protocol of the quality bars, as its `protocol` states it.
TEST(Schedule, WsdIsTheProtocolOfTheQualityBars) {
  const ScheduleOptions options = phases(ScheduleShape::kWsd, 30, 60);
  for (int s = 0; s < 300; ++s) {
    const double expected = s < 30 ? (s + 1) / 30.0 : s < 240 ? 1.0 : 1 - std::sqrt((s - 240) / 60.0);
    EXPECT_NEAR(learning_rate_factor(options, s, 300), expected, kScheduleRounding) << s;
  }
}

TEST(Schedule, FractionsMeanTheSameAsTheirSteps) {
  ScheduleOptions fractions;
  fractions.warmup_fraction = 0.05;
  fractions.decay_fraction = 0.1;
  const ScheduleOptions steps = phases(ScheduleShape::kWsd, 15, 30);
  for (int s = 0; s < 300; ++s) EXPECT_EQ(learning_rate_factor(fractions, s, 300), learning_rate_factor(steps, s, 300));
}

TEST(Schedule, OtherShapesFallOverAllStepsAfterTheWarmup) {
  const std::int64_t total = 110;
  EXPECT_NEAR(learning_rate_factor(phases(ScheduleShape::kLinear, 10, 0), 85, total), 0.25, kScheduleRounding);
  EXPECT_NEAR(learning_rate_factor(phases(ScheduleShape::kCosine, 10, 0), 60, total), 0.5, kScheduleRounding);
  EXPECT_EQ(learning_rate_factor(phases(ScheduleShape::kConstant, 10, 0), 109, total), 1);
  EXPECT_NEAR(learning_rate_factor(phases(ScheduleShape::kCosine, 10, 0), 4, total), 0.5, kScheduleRounding);
}

TEST(Schedule, DecayTendsToTheFinalFraction) {
  ScheduleOptions options = phases(ScheduleShape::kLinear, 0, 0);
  options.final_fraction = 0.2;
  EXPECT_EQ(learning_rate_factor(options, 0, 100), 1);
  EXPECT_NEAR(learning_rate_factor(options, 50, 100), 0.6, kScheduleRounding);
}

TEST(Schedule, RefusesPhasesThatDoNotFit) {
  const auto message = [](ScheduleOptions options, std::int64_t total) {
    return test::message_of<ConfigError>([&] { options.validate("train.schedule", total); });
  };
  EXPECT_EQ(message(phases(ScheduleShape::kWsd, 60, 40), 100), "no error");
  EXPECT_EQ(message(phases(ScheduleShape::kWsd, 61, 40), 100),
            "train.schedule: warm-up (61 steps) and decay (40 steps) do not fit into 100 steps");
  EXPECT_EQ(message(phases(ScheduleShape::kLinear, 61, 40), 100), "no error");
  EXPECT_EQ(message(phases(ScheduleShape::kLinear, 101, 0), 100),
            "train.schedule: warm-up (101 steps) does not fit into 100 steps");
  EXPECT_THAT(message(phases(ScheduleShape::kWsd, -1, 0), 100), testing::HasSubstr("warmup_steps: -1 is negative"));
  ScheduleOptions fraction;
  fraction.decay_fraction = std::nan("");
  EXPECT_THAT(message(fraction, 100), testing::HasSubstr("decay_fraction: nan is outside 0..1"));
}

TEST(Schedule, ReadsItsShapeByName) {
  ScheduleOptions options;
  read_fields(Json{{"shape", "cosine"}, {"warmup_steps", 7}}, "schedule", options);
  EXPECT_EQ(options.shape, ScheduleShape::kCosine);
  EXPECT_EQ(options.warmup_steps, 7);
  EXPECT_THAT(test::message_of<ConfigError>([&] {
                read_fields(Json{{"shape", "cosin"}}, "schedule", options);
              }),
              testing::HasSubstr("did you mean 'cosine'"));
}

}  // namespace
}  // namespace mla
