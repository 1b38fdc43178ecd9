// Mean-key latent attention on two real models: the closed form's perplexity, digit by digit, with slots given.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>

#include "core/base/registry.h"
#include "core/compress/pass.h"
#include "tests/support/quality_bars.h"
#include "tests/support/shared_data.h"

namespace mla {
namespace {

/// Of perplexities that are known to four decimals; the conversion is computed in float64, the model in float32.
constexpr double kFourDigits = 1e-4;
constexpr std::size_t kCalibrationRows = 128, kRefitRows = 64;

class MklaQuality : public testing::Test {
 protected:
  void load(const std::string& name) {
    bars_.emplace(name);
    calibration_ = bars_->calibration(kCalibrationRows);
  }
  PassReport convert(Decoder& decoder, Json options) const {
    options["name"] = "mkla";
    options["refit_rows"] = kRefitRows;
    PassInputs inputs;
    inputs.rows = &calibration_;
    inputs.source = &bars_->source.decoder;
    return run_pass("mkla", *Registry<Pass>::instance().make(options, "compress[0]"), decoder, inputs);
  }
  double perplexity_of(const Json& options) const {
    Decoder decoder = bars_->source.decoder.clone();
    convert(decoder, options);
    return bars_->perplexity(decoder);
  }
  void expect(double golden, const Json& options) const {
    EXPECT_NEAR(perplexity_of(options) / golden, 1, kFourDigits) << options;
  }

  std::optional<test::QualityBars> bars_;
  TokenRowList calibration_;
};

TEST_F(MklaQuality, TinyStoriesComesOutToFourDigits) {
  MLA_NEEDS_SHARED(test::kQualityFolder);
  load("tinystories-656k");
  expect(46.9779, {{"cached", 24}, {"pairs", 3}, {"refit", false}});
  expect(49.6403, {{"cached", 24}, {"pairs", {3, 0}}, {"layout", "std"}, {"refit", false}});
  expect(65.7768, {{"cached", 24}, {"pairs", {3, 5}}, {"layout", "plain"}, {"refit", false}});
  expect(53.2104, {{"cached", 24}, {"pairs", {4, 5}}, {"position", false}, {"refit", false}});
  expect(75.7907, {{"cached", 16}, {"pairs", {1, 0}}, {"refit", false}});
  expect(40.209, {{"cached", 24}, {"pairs", 3}});
  expect(49.771, {{"cached", 24}, {"pairs", {3, 5}}, {"layout", "plain"}});
  expect(56.459, {{"cached", 16}, {"pairs", {1, 0}}});
}

TEST_F(MklaQuality, StoriesComeOutToFourDigits) {
  MLA_NEEDS_SHARED(test::kQualityFolder);
  load("stories260K");
  expect(4.8447, {{"cached", 20}, {"pairs", {4, 2, 1, 1, 1}}, {"refit", false}});
  expect(5.1485, {{"cached", 20}, {"pairs", {2, 2, 0, 0, 1}}, {"layout", "std"}, {"refit", false}});
  expect(6.0461, {{"cached", 20}, {"pairs", {3, 3, 3, 3, 2}}, {"layout", "plain"}, {"refit", false}});
  expect(8.4864, {{"cached", 12}, {"pairs", {1, 2, 0, 1, 2}}, {"refit", false}});
  expect(4.603, {{"cached", 20}, {"pairs", {4, 2, 1, 1, 1}}});
  expect(5.375, {{"cached", 20}, {"pairs", {3, 3, 3, 3, 2}}, {"layout", "plain"}});
}

TEST_F(MklaQuality, SlotsAreFoundByTheErrorsOfLayers) {
  MLA_NEEDS_SHARED(test::kQualityFolder);
  load("tinystories-656k");
  const auto slots = [&](Json options) {
    options["refit"] = false;
    Decoder decoder = bars_->source.decoder.clone();
    std::vector<std::int64_t> counts;
    for (const LayerReport& layer : convert(decoder, options).layers) counts.push_back(std::ssize(layer.kept.front()));
    return counts;
  };
  EXPECT_THAT(slots({{"cached", 24}}), testing::ElementsAre(3, 3));
  EXPECT_THAT(slots({{"cached", 24}, {"layout", "std"}}), testing::ElementsAre(3, 0));
  EXPECT_THAT(slots({{"cached", 24}, {"layout", "plain"}}), testing::ElementsAre(3, 5));
  EXPECT_THAT(slots({{"cached", 16}}), testing::ElementsAre(1, 0));
  Decoder decoder = bars_->source.decoder.clone();
  const PassReport report =
      convert(decoder, {{"cached", 24}, {"pairs", 8}, {"token_importance", false}, {"refit", false}});
  EXPECT_THAT(report.layers[0].kept.front(), testing::ElementsAre(3, 1, 2, 0, 4, 3, 2, 0));
  EXPECT_THAT(report.layers[1].kept.front(), testing::ElementsAre(1, 0, 2, 3, 4, 2, 3, 1));
}

}  // namespace
}  // namespace mla
