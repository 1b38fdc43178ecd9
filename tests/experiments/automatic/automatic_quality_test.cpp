// What `convert --budget` finds on a real model, against the best that is known at that budget.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "experiments/automatic/budget.h"
#include "experiments/automatic/search.h"
#include "tests/support/quality_bars.h"
#include "tests/support/shared_data.h"

namespace mla {
namespace {

/// Of docs/methods.md: mkla with fitted layers, stories260K at 12 cached values of 64, and what it may be worse.
constexpr double kBestKnown = 5.083, kWorse = 1.03;
constexpr std::size_t kQualityRows = 128;

TEST(SearchAutomatic, ComesNearTheBestKnownOfARealModel) {
  MLA_NEEDS_SHARED(test::kQualityFolder);
  const test::QualityBars bars("stories260K");
  const Decoder& source = bars.source.decoder;
  AutomaticOptions options;
  options.bits = {16};
  options.bytes = 5 * 12 * kBytesOfElement;
  const AutomaticResult found = search_automatic(plan_automatic(options, source.spec(), "--budget"), options, source,
                                                 bars.calibration(kQualityRows), "--calibration");
  ASSERT_TRUE(found.decoder);
  EXPECT_EQ(cached_elements(found.decoder->spec()), 5 * 12);
  // The layers were fitted, and the report's passes say so.
  EXPECT_EQ(found.compress[0]["name"], "mkla");
  EXPECT_EQ(found.compress[1]["name"], "fit_layers");
  EXPECT_EQ(found.compress[2]["name"], "refit_output");
  EXPECT_EQ(found.reports.size(), 3u);
  EXPECT_LT(bars.perplexity(*found.decoder), kWorse * kBestKnown);
}

}  // namespace
}  // namespace mla
