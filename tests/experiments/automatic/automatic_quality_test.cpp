// What `convert --budget` finds on a real model, against the best that is known at that budget.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/evaluate/perplexity.h"
#include "core/model/checkpoint.h"
#include "experiments/automatic/budget.h"
#include "experiments/automatic/search.h"
#include "tests/support/shared_data.h"

namespace mla {
namespace {

/// Of docs/methods.md: mkla with fitted layers, stories260K at 12 cached values of 64, and what it may be worse.
constexpr double kBestKnown = 5.083, kWorse = 1.03;
constexpr std::size_t kQualityRows = 128;

TokenRowList quality_rows(const at::Tensor& ids, const at::Tensor& lengths) {
  TokenRowList rows;
  const at::Tensor dense = ids.to(at::kInt).contiguous();
  for (std::int64_t i = 0; i < dense.size(0); ++i) {
    const std::int32_t* begin = dense.const_data_ptr<std::int32_t>() + i * dense.size(1);
    rows.emplace_back(begin, begin + (lengths.defined() ? lengths[i].item<std::int64_t>() : dense.size(1)));
  }
  return rows;
}

TEST(SearchAutomatic, ComesNearTheBestKnownOfARealModel) {
  MLA_NEEDS_SHARED("data/conformance/quality");
  const WeightMap data = read_safetensors(test::shared_folder() / "data/conformance/quality/stories260K.safetensors");
  const Checkpoint source = load_checkpoint(test::shared_folder() / "data/weights/stories260K/stories260K.bin");
  TokenRowList calibration = quality_rows(data.at("calib_ids"), {});
  calibration.resize(kQualityRows);
  AutomaticOptions options;
  options.bits = {16};
  options.bytes = 5 * 12 * kBytesOfElement;
  const AutomaticResult found = search_automatic(plan_automatic(options, source.decoder.spec(), "--budget"), options,
                                                 source.decoder, calibration, "--calibration");
  ASSERT_TRUE(found.decoder);
  EXPECT_EQ(cached_elements(found.decoder->spec()), 5 * 12);
  // The layers were fitted, and the report's passes say so.
  EXPECT_EQ(found.compress[0]["name"], "mkla");
  EXPECT_EQ(found.compress[1]["name"], "fit_layers");
  EXPECT_EQ(found.compress[2]["name"], "refit_output");
  EXPECT_EQ(found.reports.size(), 3u);
  PerplexityOptions evaluation;
  evaluation.context = 256;
  const double perplexity_found =
      perplexity(*found.decoder, quality_rows(data.at("eval_ids"), data.at("eval_len")), evaluation).perplexity;
  EXPECT_LT(perplexity_found, kWorse * kBestKnown);
}

}  // namespace
}  // namespace mla
