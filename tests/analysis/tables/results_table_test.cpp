// `mlaforge-report table` on records made by hand.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "core/store/record.h"
#include "tests/analysis/run_report.h"
#include "tests/support/temporary_folder.h"

namespace mla {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr double kRounding = 1e-9;

ScoreRecord score(const std::string& stage, const std::string& task, const std::string& metric, double value,
                  double error) {
  ScoreRecord record;
  record.stage = stage;
  record.task = task;
  record.metric = metric;
  record.value = value;
  record.standard_error = error;
  record.n = 10;
  return record;
}

RunRecord run_of(const std::string& cell, const Json& compress, int seed, double accuracy) {
  RunRecord record;
  record.head = {RunStatus::kComplete, "", "ablation", cell, "00", "2025-01-31T12:00:00Z"};
  record.config = {
      {"model", {{"path", "data/toy"}}}, {"compress", compress}, {"train", {{"steps", 3}, {"seed", seed}}}};
  const auto add = [&](const std::string& stage, double value) {
    record.evaluation.push_back(score(stage, "first", "accuracy_normalized", value, 0.04));
    record.evaluation.push_back(score(stage, "first", "accuracy", 0.1, 0.04));
    record.evaluation.push_back(score(stage, "second", "accuracy_normalized", value / 2, 0.03));
    record.evaluation.push_back(score(stage, "text", "perplexity", 10 * value, 0.5));
  };
  add("source", 0.9);
  if (!compress.empty()) {
    add("converted", 0.2);
    LayerRecord layer;
    layer.cached_elements = 12;
    layer.cached_elements_before = 64;
    record.compression = {layer};
  }
  add("fine_tuned", accuracy);
  return record;
}

class ResultsTableTest : public testing::Test {
 protected:
  void SetUp() override {
    const Json high = Json::array({{{"name", "mha2mla"},
                                    {"rope", {{"name", "high"}, {"pairs", 2}}},
                                    {"low_rank", {{"name", "joint_svd"}, {"d_kv", 8}}}}});
    write("baseline", run_of("baseline", Json::array(), 1, 0.8));
    write("high1", run_of("high1", high, 1, 0.6));
    write("high2", run_of("high2", high, 2, 0.7));
  }
  void write(const std::string& name, const RunRecord& record) const { write_record(folder_ / (name + ".h5"), record); }
  test::ReportResult table(std::vector<std::string> options) const {
    options.insert(options.begin(), {"table", folder_.path().string()});
    return test::run_report(options);
  }

  test::TemporaryFolder folder_;
};

TEST_F(ResultsTableTest, AveragesOverSeedsAndTasks) {
  const auto result = table({"--json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const Json report = result.json();
  EXPECT_EQ(report["columns"], Json({"first", "second", "average", "text"}));
  ASSERT_EQ(report["rows"].size(), 3U);
  EXPECT_EQ(report["rows"][0]["stage"], "source");
  EXPECT_EQ(report["rows"][0]["saved_percent"], 0.0);
  EXPECT_EQ(report["rows"][1]["stage"], "fine_tuned");
  EXPECT_EQ(report["rows"][1]["rope"], "all");
  const Json& row = report["rows"][2];
  EXPECT_EQ(row["rope"], "high r=2");
  EXPECT_EQ(row["low_rank"], "joint_svd d_kv=8");
  EXPECT_EQ(row["runs"], 2);
  EXPECT_NEAR(row["saved_percent"].get<double>(), 81.25, kRounding);
  const auto value = [&](const char* column, const char* what) { return row["values"][column][what].get<double>(); };
  EXPECT_NEAR(value("first", "mean"), 65, kRounding);
  EXPECT_NEAR(value("first", "standard_error"), 5, kRounding);  // sd of 60 and 70 is 7.07; over sqrt(2)
  EXPECT_NEAR(value("second", "mean"), 32.5, kRounding);
  EXPECT_NEAR(value("average", "mean"), 48.75, kRounding);
  EXPECT_NEAR(value("average", "standard_error"), 3.75, kRounding);
  EXPECT_NEAR(value("text", "mean"), 6.5, kRounding);
}

TEST_F(ResultsTableTest, OneRunHasTheErrorOfItsItems) {
  const Json baseline = table({"--json"}).json()["rows"][1];
  EXPECT_NEAR(baseline["values"]["first"]["standard_error"].get<double>(), 4, kRounding);
  EXPECT_NEAR(baseline["values"]["average"]["standard_error"].get<double>(), 2.5, kRounding);  // sqrt(4^2 + 3^2) / 2
}

// What is not trained yet is the same whatever the seed: its spread over seeds would be no error at all.
TEST_F(ResultsTableTest, RunsThatAgreeHaveTheErrorOfTheirItems) {
  const Json converted = table({"--stage", "converted", "--json"}).json()["rows"][1];
  EXPECT_EQ(converted["runs"], 2);
  EXPECT_NEAR(converted["values"]["first"]["standard_error"].get<double>(), 4, kRounding);
  EXPECT_EQ(converted["values"]["first"]["standard_error_over_runs"], 0);
}

TEST_F(ResultsTableTest, ShowsAnotherStageOrMetric) {
  const Json converted = table({"--stage", "converted", "--json"}).json();
  ASSERT_EQ(converted["rows"].size(), 2U);  // the baseline has no such stage
  EXPECT_NEAR(converted["rows"][1]["values"]["first"]["mean"].get<double>(), 20, kRounding);
  EXPECT_EQ(table({"--metric", "accuracy", "--json"}).json()["columns"], Json({"first", "average", "text"}));
}

TEST_F(ResultsTableTest, MarksDivergedRunsAndNamesFailedOnes) {
  RunRecord diverged =
      run_of("low", Json::array({{{"name", "mha2mla"}, {"rope", {{"name", "low"}, {"pairs", 2}}}}}), 1, 0.3);
  diverged.head.status = RunStatus::kDiverged;
  write("low", diverged);
  RunRecord failed = run_of("uniform", Json::array(), 3, 0);
  failed.head.status = RunStatus::kFailed;
  failed.head.message = "no such tensor";
  write("uniform", failed);
  folder_.write("broken.h5", "not a record");
  const auto result = table({});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, AllOf(HasSubstr("1 (1 diverged)"), HasSubstr("failed: no such tensor"),
                                HasSubstr("broken.h5"), HasSubstr("65.0 ±5.0"), HasSubstr("81.25")));
}

TEST_F(ResultsTableTest, RefusesWhatItDoesNotKnow) {
  EXPECT_EQ(table({"--stage", "tuned"}).exit_code, 2);
  EXPECT_EQ(test::run_report({"tabel", folder_.path().string()}).exit_code, 2);
  const auto none = test::run_report({"table", folder_.write("empty/note.txt", "").parent_path().string()});
  EXPECT_EQ(none.exit_code, 3);
  EXPECT_THAT(none.err, HasSubstr("there is no record"));
  folder_.write("alone/broken.h5", "not a record");
  const auto broken = test::run_report({"table", (folder_ / "alone").string()});
  EXPECT_EQ(broken.exit_code, 3);
  EXPECT_THAT(broken.err, AllOf(HasSubstr("1 files left out"), HasSubstr("broken.h5")));
}

}  // namespace
}  // namespace mla
