// Values of one config path against each other: what is paired, what a test says, what is marked.
#include "analysis/compare/compare_by.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "analysis/compare/paired_test.h"
#include "tests/analysis/run_report.h"
#include "tests/analysis/synthetic_records.h"
#include "tests/support/temporary_folder.h"

namespace mla {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

constexpr const char* kRope = "compress[0].rope.name";

class CompareByTest : public testing::Test {
 protected:
  void write(const test::SyntheticCell& cell) const {
    const RunRecord record = test::synthetic_record(cell);
    write_record(folder_ / "results/sweep" / (record.head.cell + ".h5"), record);
  }
  test::ReportResult compare(std::vector<std::string> more) const {
    more.insert(more.begin(), {"compare", (folder_ / "results").string()});
    return test::run_report(more);
  }
  static Json pair_of(const Json& report, const std::string& a, const std::string& b, const std::string& metric) {
    for (const Json& pair : report["comparisons"]) {
      if (pair["before"] == a && pair["after"] == b && pair["metric"] == metric) return pair;
    }
    return {};
  }

  test::TemporaryFolder folder_;
};

// By R: t.test(x, conf.level = .95) of these numbers: t = 3.8297, df = 11, p-value = 0.002793, 0.2557 … 0.9443.
TEST(PairedTestOfDifferences, IsStudentsForOneCell) {
  const std::vector<double> x = {0.1, 0.9, 0.4, 1.2, 0.3, 0.7, -0.2, 1.5, 0.8, 0.2, 0.6, 0.7};
  const PairedTest test = paired_test({{{x}, {}, 1}}, 0.95);
  EXPECT_NEAR(test.difference, 0.6, 1e-12);
  const double error = test.standard_error;
  EXPECT_NEAR((*test.high - *test.low) / 2 / error, 2.200985, 1e-5);  // qt(.975, 11)
  EXPECT_NEAR(*test.effect, test.difference / (error * std::sqrt(12.0)), 1e-12);
  EXPECT_GT(*test.p_value, 0.0005);
  EXPECT_LT(*test.p_value, 0.005);
  EXPECT_EQ(test.items, 12);
}

TEST(PairedTestOfDifferences, CellsThatDisagreeMakeItUnsure) {
  const std::vector<double> up(50, 0.5), down(50, -0.4);
  std::vector<double> noisy = up;
  for (std::size_t i = 0; i < noisy.size(); ++i) noisy[i] += i % 2 == 0 ? 0.1 : -0.1;
  EXPECT_LT(*paired_test({{{noisy, noisy, noisy}, {}, 1}}, 0.95).p_value, 1e-6);
  EXPECT_GT(*paired_test({{{noisy, down, noisy}, {}, 1}}, 0.95).p_value, 0.2);
}

TEST(PairedTestOfDifferences, WhatDiffersNowhereIsTheSame) {
  const PairedTest same = paired_test({{{std::vector<double>(10, 0.0)}, {}, 1}}, 0.95);
  EXPECT_EQ(same.p_value, 1.0);
  EXPECT_EQ(same.low, 0.0);
  EXPECT_FALSE(same.effect);
  EXPECT_FALSE(paired_test({{{{0.5}}, {}, 1}}, 0.95).p_value) << "of one item alone nothing is known";
}

TEST_F(CompareByTest, PairsCellsThatDifferInNothingElse) {
  for (const char* rope : {"low", "two_norm", "high"}) {
    for (int seed = 1; seed <= 3; ++seed) {
      for (const int d_kv : {4, 8}) write({rope, "joint_svd", 2, d_kv, seed});
    }
  }
  write({"uniform", "joint_svd", 4, 16, 9});  // no other cell has its settings
  const auto result = compare({"--by", kRope, "--json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const Json report = parse_json(result.out, "stdout");
  const Json low = pair_of(report, "high", "low", "perplexity");
  ASSERT_FALSE(low.is_null()) << result.out;
  EXPECT_EQ(low["cells"], 6);
  EXPECT_EQ(low["items"], 40);
  EXPECT_GT(low["difference"], 0);
  EXPECT_GT(low["low"], 0);
  EXPECT_GT(low["high"], low["difference"]);
  EXPECT_LE(low["p_value"], low["p_holm"]);
  EXPECT_LT(low["p_holm"], 0.05);
  EXPECT_GT(low["effect"], low["effect_low"]);
  EXPECT_LT(low["effect"], low["effect_high"]);
  EXPECT_TRUE(pair_of(report, "high", "uniform", "perplexity").is_null());
  // 3 pairs of values, and 3 tasks beside the perplexity.
  EXPECT_EQ(report["comparisons"].size(), 12u);
  const Json best = report["best"]["perplexity perplexity"];
  EXPECT_NE(best["best"], "low");
  EXPECT_THAT(best["indistinguishable"].dump(), Not(HasSubstr("\"low\"")));
  EXPECT_EQ(report["table"]["rows"].size(), 3u);
  EXPECT_THAT(report["notes"].dump(), HasSubstr("uniform: left out"));
}

TEST_F(CompareByTest, NumbersAreOrderedAndMarked) {
  for (int seed = 1; seed <= 3; ++seed) {
    for (const int d_kv : {16, 4, 8}) write({"two_norm", "joint_svd", 2, d_kv, seed});
  }
  const auto text = compare({"--by", "compress[0].low_rank.d_kv", "--metric", "perplexity"});
  ASSERT_EQ(text.exit_code, 0) << text.err;
  EXPECT_LT(text.out.find("\n4 "), text.out.find("\n8 "));
  EXPECT_LT(text.out.find("\n8 "), text.out.find("\n16 "));
  EXPECT_THAT(text.out, AllOf(HasSubstr("*: best of the column"), HasSubstr("~: not told from the best"),
                              HasSubstr("p Holm: corrected for 3 tests"), HasSubstr("effect")));
  const auto markdown =
      compare({"--by", "compress[0].low_rank.d_kv", "--metric", "perplexity", "--format", "markdown"});
  EXPECT_THAT(markdown.out, HasSubstr("| 16 | 3 | **"));
  const auto csv = compare({"--by", "compress[0].low_rank.d_kv", "--format", "csv"});
  EXPECT_THAT(csv.out, HasSubstr("compress[0].low_rank.d_kv,runs"));
  EXPECT_THAT(compare({"--by", "compress[0].low_rank.d_kv", "--format", "latex"}).out, HasSubstr("\\textbf{"));
}

TEST_F(CompareByTest, OptionsOfAValueItsOwnArePairedBySettings) {
  for (int seed = 1; seed <= 2; ++seed) {
    for (const char* rope : {"high", "low"}) {
      RunRecord record = test::synthetic_record({rope, "joint_svd", 2, 8, seed});
      record.config["compress"][0]["rope"][std::string("only_of_") + rope] = 1;
      write_record(folder_ / "results/sweep" / (record.head.cell + ".h5"), record);
    }
  }
  const Json report = parse_json(compare({"--by", kRope, "--json"}).out, "stdout");
  EXPECT_EQ(pair_of(report, "high", "low", "perplexity")["cells"], 2);
  EXPECT_THAT(report["notes"].dump(), HasSubstr("paired by the other settings of their grids"));
}

TEST_F(CompareByTest, WhatCannotBeIsRefused) {
  write({"high", "joint_svd", 2, 8, 1});
  write({"high", "joint_svd", 2, 8, 2});
  const auto unknown = compare({"--by", "compress[0].rope.nme"});
  EXPECT_EQ(unknown.exit_code, 2);
  EXPECT_THAT(unknown.err, AllOf(HasSubstr("--by: "), HasSubstr(kRope)));
  EXPECT_THAT(compare({"--by", kRope}).err, HasSubstr("all cells have the same value at compress[0].rope.name, high"));
  write({"low", "joint_svd", 2, 8, 3});
  EXPECT_THAT(compare({"--by", kRope}).err, HasSubstr("no two cells differ in compress[0].rope.name alone"));
  EXPECT_THAT(compare({"--by", kRope, "--metric", "perplexy"}).err, HasSubstr("--metric: "));
  EXPECT_THAT(compare({"--by", kRope, "--format", "word"}).err, HasSubstr("--format: "));
  EXPECT_THAT(compare({"--metric", "perplexity"}).err, HasSubstr("--metric: belongs to --by"));
  EXPECT_THAT(compare({"--by", kRope, "--fail-on-worse"}).err, HasSubstr("--by: "));
}

}  // namespace
}  // namespace mla
