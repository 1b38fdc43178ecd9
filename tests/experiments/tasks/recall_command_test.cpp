// Recall and positions, from the command line and in a sweep.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "core/store/record.h"
#include "tests/support/run_program.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_model_folder.h"

namespace mla {
namespace {

using testing::HasSubstr;

class RecallCommand : public testing::Test {
 protected:
  RecallCommand() { test::write_tiny_model(folder_ / "model"); }
  test::ProgramResult recall(std::vector<std::string> arguments) const {
    arguments.insert(arguments.begin(), {"recall", "--model", (folder_ / "model").string(), "--json", "--quiet"});
    return test::run_program(arguments);
  }
  test::TemporaryFolder folder_;
};

TEST_F(RecallCommand, ReportsByLengthAndDepth) {
  const std::string items = (folder_ / "items.json").string();
  const auto result =
      recall({"--kind", "key_value", "--lengths", "200,300", "--depths", "0,0.5", "--items", "4", "-o", items});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const Json report = result.json();
  EXPECT_EQ(report["items"], 16);
  EXPECT_EQ(report["chance"], 0.25);
  EXPECT_EQ(report["metrics"]["exact_200_at_50"]["n"], 4);
  EXPECT_EQ(report["metrics"]["choice_300"]["n"], 8);
  EXPECT_GT(report["metrics"]["answer_nll"]["value"], 0);
  const Json detailed = read_json(items);
  ASSERT_EQ(detailed["per_item"].size(), 16U);
  double chosen = 0;
  for (const Json& item : detailed["per_item"]) chosen += item["chosen"].get<double>();
  EXPECT_DOUBLE_EQ(report["metrics"]["choice"]["value"], chosen / 16);
}

TEST_F(RecallCommand, MistakesAreNamed) {
  const auto refused = [&](const std::vector<std::string>& arguments) {
    const auto result = recall(arguments);
    EXPECT_EQ(result.exit_code, 2) << result.err;
    return result.err;
  };
  EXPECT_THAT(refused({"--kind", "needel"}), HasSubstr("recall.kind: no 'needel'; did you mean 'needle'"));
  EXPECT_THAT(refused({"--lengths", "200,x"}), HasSubstr("--lengths 200,x: expected numbers joined by commas"));
  EXPECT_THAT(refused({"--depths", "2"}), HasSubstr("recall.depths[0] = 2"));
  const auto file = folder_.write("options.json", R"({"statment": " x {value}"})");
  EXPECT_THAT(refused({"--options", file.string()}), HasSubstr("did you mean 'statement'"));
}

TEST_F(RecallCommand, SweepsRecordRecallAndPositions) {
  folder_.write("text.txt", "ab abc ab cab ba abc ab ab abc ab cab ba ab ba cab");
  const auto config = folder_.write_config("sweep.json", R"({
     "model": {"path": "@/model"}, "results": "@/results",
     "compress": [{"name": "mha2mla", "rope": {"name": "high", "pairs": 1},
                   "low_rank": {"name": "joint_svd", "d_kv": 3}}],
     "evaluate": [{"task": "recall", "recall": {"kind": "passkey", "lengths": [200], "items": 2}},
                  {"task": "perplexity", "data": {"files": ["@/text.txt"]}, "context": 12, "buckets": []},
                  {"task": "distance", "data": {"files": ["@/text.txt"]}, "context": 12, "buckets": []}]})");
  const auto result = test::run_program({"run", config.string(), "--json", "--quiet"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  std::set<std::string> names;
  const RunRecord record = read_record(result.json()["cells"][0]["record"].get<std::string>());
  for (const ScoreRecord& score : record.evaluation) {
    names.insert(score.stage + " " + score.task + " " + score.metric);
    if (score.metric == "exact") {
      EXPECT_EQ(score.per_sample.size(), 10U);
    }
  }
  for (const char* name : {"source recall exact", "converted recall choice_200_at_25", "source perplexity nll_4-7",
                           "converted distance kl_8-11"}) {
    EXPECT_TRUE(names.contains(name)) << name;
  }
  EXPECT_FALSE(names.contains("source distance kl_mean"));
}

TEST_F(RecallCommand, PerplexityByPosition) {
  const std::string text = folder_.write("text.txt", "ab abc ab cab ba abc ab ab abc ab cab ba ab ba cab").string();
  const auto evaluate = [&](const std::string& buckets) {
    return test::run_program({"evaluate", "--model", (folder_ / "model").string(), "--perplexity", text, "--context",
                              "8", "--buckets", buckets, "--json", "--quiet"});
  };
  const Json report = evaluate("auto").json();
  double sum = 0, tokens = 0;
  for (const auto& [name, score] : report["by_position"].items()) {
    sum += score["value"].get<double>() * score["n"].get<double>();
    tokens += score["n"].get<double>();
  }
  EXPECT_EQ(report["by_position"].size(), 3U);
  EXPECT_EQ(tokens, report["tokens"]);
  EXPECT_NEAR(sum / tokens, report["mean_nll"].get<double>(), 1e-9);
  EXPECT_THAT(evaluate("4,2").err, HasSubstr("--buckets[1] = 2: expected ascending positions"));
}

}  // namespace
}  // namespace mla
