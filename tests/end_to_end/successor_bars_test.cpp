// TransMLA, CARE, SVD-LLM, ASVD and Palu on real models against what public code reached with the same cached values.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "core/attention/latent.h"
#include "tests/support/converted_models.h"
#include "tests/support/quality_bars.h"
#include "tests/support/sanitizers.h"
#include "tests/support/shared_data.h"

namespace mla {
namespace {

constexpr double kSuccessorTolerance = 0.03;
/// Rows that the peers measured on.
constexpr std::size_t kSharedKeyRows = 128, kFullRopeRows = 256, kFisherRows = 32;
/// Cells of these cached values are run; the others differ in the budget alone.
const std::map<std::string, std::set<double>> kSuccessorCells = {{"tinystories-656k", {24, 16}},
                                                                 {"stories260K", {20, 12}}};

class SuccessorBars : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    if (test::kSanitized && GetParam() != "stories260K")
      GTEST_SKIP() << "the larger model runs the same code, for an hour under a sanitizer";
  }

  Decoder converted(const test::QualityBars& bars, const Json& config, std::size_t rows) const {
    const TokenRowList calibration = bars.calibration(rows);
    const auto pass = test::pass_of(config);
    Decoder decoder = bars.source.decoder.clone();
    Statistics statistics;
    if (!pass->requirements().empty())
      statistics = calibrate(bars.source.decoder, calibration, pass->requirements(), {}, {});
    PassInputs inputs;
    inputs.statistics = &statistics;
    inputs.rows = &calibration;
    inputs.arithmetic = at::kDouble;
    run_pass(config.at("name").get<std::string>(), *pass, decoder, inputs);
    return decoder;
  }
  static bool in_cells(const Json& bar, const std::string& model) {
    return kSuccessorCells.at(model).contains(bar["kv_values"].get<double>());
  }
  /// Latent elements of each layer.
  static std::vector<std::int64_t> latents(const Decoder& decoder) {
    std::vector<std::int64_t> all;
    for (std::int64_t layer = 0; layer < decoder.spec().layer_count(); ++layer)
      all.push_back(*decoder.spec().attention(layer).latent_width());
    return all;
  }
};

/// Rounding and ties move a rank by one; what a whole schedule moves stays small.
void expect_ranks_near(const std::vector<std::int64_t>& found, const Json& wanted) {
  ASSERT_EQ(found.size(), wanted.size());
  for (std::size_t i = 0; i < found.size(); ++i)
    EXPECT_LE(std::abs(found[i] - wanted[i].get<std::int64_t>()), 1) << i << ": " << found[i] << " for " << wanted;
}

TEST_P(SuccessorBars, OneRotatedKeyMatches) {
  MLA_NEEDS_SHARED(test::kQualityFolder);
  const test::QualityBars bars(GetParam());
  int compared = 0;
  for (const Json& bar : bars.results) {
    const std::string peer = bar["peer"];
    if ((peer != "TransMLA" && peer != "CARE (MLA)") || bar["latent"].is_null() || !in_cells(bar, GetParam())) continue;
    Json config = {{"name", "transmla"}};
    config["cached"] = std::llround(bar["kv_values"].get<double>());
    config["collapse"] = bar["collapse"];
    config["fold"] = bar["freqfold"];
    if (peer == "CARE (MLA)") {
      std::string variant = bar["method"];
      std::replace(variant.begin(), variant.end(), '-', '_');
      config["name"] = "care";
      config["variant"] = variant;
      config["ranks"] = bar["dynamic_rank"].get<bool>() ? "adjusted" : "uniform";
    }
    const Decoder decoder = converted(bars, config, kSharedKeyRows);
    EXPECT_NEAR(bars.perplexity(decoder) / bar["ppl"].get<double>(), 1, kSuccessorTolerance) << config << bar["ppl"];
    if (bar["latent"].is_array()) expect_ranks_near(latents(decoder), bar["latent"]);
    ++compared;
  }
  EXPECT_GE(compared, 10);
}

TEST_P(SuccessorBars, FullRopeMatches) {
  MLA_NEEDS_SHARED(test::kQualityFolder);
  const test::QualityBars bars(GetParam());
  const std::map<std::string, Json> methods = {
      {"svdllm", {{"name", "svd_llm"}}},
      {"asvd", {{"name", "asvd"}}},
      {"palu", {{"name", "palu"}}},
      {"care", {{"name", "care_full_rope"}}},
      {"no-sqrt-care", {{"name", "care_full_rope"}, {"variant", "no_sqrt_care"}}}};
  int compared = 0;
  for (const Json& bar : bars.results) {
    const auto named = bar.contains("method") ? methods.find(bar["method"]) : methods.end();
    if (named == methods.end() || !bar.contains("k_ranks") || !in_cells(bar, GetParam())) continue;
    Json config = named->second;
    config["cached"] = std::llround(bar["kv_values"].get<double>());
    config["allocate"] = {{"name", bar["dynamic_rank"].get<bool>() ? "adjusted" : "uniform"}};
    const Decoder decoder = converted(bars, config, kFullRopeRows);
    EXPECT_NEAR(bars.perplexity(decoder) / bar["ppl"].get<double>(), 1, kSuccessorTolerance) << config << bar["ppl"];
    ++compared;
  }
  EXPECT_EQ(compared, 20);
}

/// No peer was measured with Palu's search by Fisher information; what it is for shows beside the same ranks
/// everywhere.
TEST_P(SuccessorBars, FisherInformationSharesPalusRanks) {
  MLA_NEEDS_SHARED(test::kQualityFolder);
  const test::QualityBars bars(GetParam());
  for (const double cached : kSuccessorCells.at(GetParam())) {
    Json config = {{"name", "palu"}, {"cached", std::llround(cached)}};
    const double uniform = bars.perplexity(converted(bars, config, kFisherRows));
    config["ranks"] = "fisher";
    const Decoder decoder = converted(bars, config, kFisherRows);
    EXPECT_EQ(cached_elements(decoder.spec()), std::llround(cached) * decoder.spec().layer_count());
    EXPECT_LT(bars.perplexity(decoder), uniform) << cached;
  }
}

/// The layouts that do best, found on calibration text: what the peers' search, on test text, found as well.
TEST_P(SuccessorBars, TheLayoutIsFoundOnHeldOutText) {
  MLA_NEEDS_SHARED(test::kQualityFolder);
  const test::QualityBars bars(GetParam());
  const std::int64_t values = GetParam() == "stories260K" ? 20 : 24;
  const Decoder decoder = converted(bars, {{"name", "transmla"}, {"cached", values}}, kSharedKeyRows);
  const LatentLayout& layout = *latent_layout(decoder.spec().attention(0));
  EXPECT_EQ(layout.rope_width(), 8);
  EXPECT_EQ(layout.kept, GetParam() == "stories260K" ? (KeptPairs{{0, 1, 2, 3}}) : (KeptPairs{{0, 2, 4, 6}}));
}

INSTANTIATE_TEST_SUITE_P(Models, SuccessorBars, testing::Values("tinystories-656k", "stories260K"),
                         [](const auto& test) {
                           return test.param == "stories260K" ? "stories260K" : "tinystories_656k";
                         });

}  // namespace
}  // namespace mla
