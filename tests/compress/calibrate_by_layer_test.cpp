// Calibration layer by layer gives what calibration of the whole model gives.
#include "core/compress/calibration/calibrate_by_layer.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "tests/support/attention_models.h"
#include "tests/support/tiny_models.h"

namespace mla {
namespace {

const TokenRowList kSomeRows = {{3, 14, 15, 9, 26}, {5, 35, 8, 9, 7}, {9, 3, 2, 38}, {46, 26}};

Requirements of_one_layer() {
  Requirement cross{Tap::kLayerInput, "cross_moment"};
  cross.with = Tap::kLayerOutput;
  return {kQueryPairNorms, kKeyPairNorms, kInputMoment, kInputMean, cross, {Tap::kFeedForwardInner, "mean_square"}};
}

void expect_same_statistics(const Decoder& decoder) {
  const CalibrationOptions batches{.batch_tokens = 5};
  const Statistics whole = calibrate(decoder, kSomeRows, of_one_layer(), batches, {});
  std::int64_t told = 0, kept = 0;
  const Statistics by_layer = calibrate_by_layer(
      decoder, kSomeRows, of_one_layer(), batches,
      [&](const at::Tensor& value) {
        ++kept;
        return value;
      },
      [&](std::int64_t tokens) { told += tokens; });
  EXPECT_EQ(by_layer.tokens, whole.tokens);
  EXPECT_EQ(by_layer.rows_hash, whole.rows_hash);
  EXPECT_EQ(told, whole.tokens * decoder.spec().layer_count());
  ASSERT_EQ(by_layer.values.size(), whole.values.size());
  EXPECT_EQ(kept, std::ssize(whole.values));
  for (const auto& [key, value] : whole.values) {
    EXPECT_TRUE(at::equal(by_layer.values.at(key), value)) << key.first.name() << ", layer " << key.second;
  }
}

TEST(CalibrateByLayer, IsCalibrationToTheBit) {
  for (const std::string& kind : test::tiny_kinds()) {
    SCOPED_TRACE(kind);
    expect_same_statistics(test::tiny_decoder(test::tiny_spec(kind), at::kFloat));
  }
  expect_same_statistics(test::tiny_decoder(test::spec_with_attention("shared_attention"), at::kFloat));
}

TEST(CalibrateByLayer, LeavesToTheOtherWhatLooksAtAllLayers) {
  EXPECT_TRUE(can_calibrate_by_layer(of_one_layer()));
  Requirement gradient = kInputMoment;
  gradient.gradient = true;
  EXPECT_FALSE(can_calibrate_by_layer({gradient}));
  EXPECT_FALSE(can_calibrate_by_layer({{Tap::kLayerOutput, "similarity"}}));
  EXPECT_FALSE(can_calibrate_by_layer({{Tap::kFinalState, "mean"}}));
}

TEST(CalibrateByLayer, CountsItsStates) {
  const Decoder decoder = test::tiny_decoder(test::tiny_spec("gqa"), at::kFloat);
  EXPECT_EQ(state_bytes(decoder, kSomeRows), 16 * 32 * 4);
}

}  // namespace
}  // namespace mla
