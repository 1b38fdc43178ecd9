// Zero-shot perplexity of converted real models against what the official code reached with the same cached elements.
#include "tests/support/quality_bars.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "core/base/registry.h"
#include "core/compress/pass.h"
#include "tests/support/shared_data.h"

namespace mla {
namespace {

constexpr double kRelativeTolerance = 0.005;
/// Cells of this many cached elements per token and layer are run; the others differ in the width alone.
const std::map<std::string, std::vector<std::int64_t>> kCells = {{"tinystories-656k", {40, 24}},
                                                                 {"stories260K", {20, 10}}};

class QualityBars : public testing::TestWithParam<std::string> {};

TEST_P(QualityBars, ZeroShotConversionsMatch) {
  MLA_NEEDS_SHARED(test::kQualityFolder);
  const std::string name = GetParam();
  const test::QualityBars bars(name);
  const Statistics statistics =
      calibrate(bars.source.decoder, bars.all_calibration, {kQueryPairNorms, kKeyPairNorms}, {}, {});

  int compared = 0;
  for (const Json& bar : bars.results) {
    if (bar["peer"] != "MHA2MLA" || bar["svd"] == "none") continue;
    const auto cells = kCells.at(name);
    if (std::find(cells.begin(), cells.end(), bar["kv_values"].get<std::int64_t>()) == cells.end()) continue;
    const std::string strategy = bar["strategy"];
    const Json rope = {{"name", strategy == "2-norm" ? "two_norm" : strategy},
                       {"pairs", bar["d_r"].get<std::int64_t>() / 2}};
    const Json low_rank = {{"name", bar["svd"].get<std::string>() + "_svd"}, {"latent", bar["latent"]}};
    Decoder decoder = bars.source.decoder.clone();
    PassInputs inputs;
    inputs.statistics = &statistics;
    const auto pass =
        Registry<Pass>::instance().make({{"name", "mha2mla"}, {"rope", rope}, {"low_rank", low_rank}}, "bar");
    run_pass("mha2mla", *pass, decoder, inputs);
    EXPECT_EQ(cached_elements(decoder.spec().attention(0)), bar["kv_values"].get<std::int64_t>());
    const double found = bars.perplexity(decoder);
    EXPECT_NEAR(found / bar["ppl"].get<double>(), 1, kRelativeTolerance) << bar.dump() << " found " << found;
    ++compared;
  }
  EXPECT_GE(compared, 12);
  EXPECT_NEAR(bars.perplexity(bars.source.decoder), name == "stories260K" ? 3.6091 : 18.7208, 1e-3);
}

INSTANTIATE_TEST_SUITE_P(Models, QualityBars, testing::Values("tinystories-656k", "stories260K"), [](const auto& test) {
  return test.param == "stories260K" ? "stories260K" : "tinystories_656k";
});

}  // namespace
}  // namespace mla
