// The command "distance" and the evaluation of that name, from models on disk to reports and records.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "core/store/record.h"
#include "core/text/multiple_choice_item.h"
#include "tests/support/run_program.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_model_folder.h"

namespace mla {
namespace {

using testing::HasSubstr;

class DistanceCommand : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new test::TemporaryFolder;
    test::write_tiny_model(*folder_ / "source");
    const auto result = test::run_program({"convert", "--model", path("source"), "--output", path("mla"), "--rope",
                                           "high", "--pairs", "1", "--low-rank", "joint_svd", "--d-kv", "3", "--json"});
    ASSERT_EQ(result.exit_code, 0) << result.err;
    folder_->write("text.txt", "ab abc ab cab ba abc ab ab abc ab cab ba ab ba cab cab abc ab\nab ba ab cab");
  }
  static void TearDownTestSuite() { delete folder_; }
  static std::string path(const std::string& name) { return (*folder_ / name).string(); }
  static test::ProgramResult distance(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {"distance", "--json", "--quiet", "--context", "8"});
    return test::run_program(arguments);
  }

  static test::TemporaryFolder* folder_;
};
test::TemporaryFolder* DistanceCommand::folder_ = nullptr;

TEST_F(DistanceCommand, ReportsEveryMeasureWithItsError) {
  const auto result = distance(
      {"--model", path("mla"), "--source", path("source"), "--text", path("text.txt"), "-o", path("out.json")});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const Json report = result.json();
  for (const char* metric :
       {"kl_mean", "kl_median", "kl_90", "kl_99", "top1_agreement", "nll_difference", "perplexity_ratio"}) {
    ASSERT_TRUE(report["metrics"].contains(metric)) << metric;
    EXPECT_TRUE(report["metrics"][metric]["standard_error"].is_number()) << metric;
  }
  const Json& kl = report["metrics"]["kl_mean"];
  EXPECT_GT(kl["value"], 0);
  EXPECT_LT(kl["low"], kl["value"]);
  EXPECT_GT(kl["high"], kl["value"]);
  const auto perplexity = [&](const std::string& model) {
    return test::run_program({"evaluate", "--model", path(model), "--perplexity", path("text.txt"), "--context", "8",
                              "--json", "--quiet"})
        .json()["perplexity"]
        .get<double>();
  };
  EXPECT_NEAR(report["metrics"]["perplexity_ratio"]["value"].get<double>(), perplexity("mla") / perplexity("source"),
              1e-6);
  const Json detailed = read_json(path("out.json"));
  EXPECT_EQ(detailed["per_token"]["kl"].size(), report["tokens"]);
  EXPECT_EQ(report["documents"], 1);
}

TEST_F(DistanceCommand, StoredPredictionsServeLater) {
  const auto saved = distance(
      {"--source", path("source"), "--text", path("text.txt"), "--save", path("stored.safetensors"), "--kept", "0"});
  ASSERT_EQ(saved.exit_code, 0) << saved.err;
  EXPECT_EQ(saved.json()["saved"]["kept"], test::kTinyTokens);
  const auto live = distance({"--model", path("mla"), "--source", path("source"), "--text", path("text.txt")});
  const auto stored =
      distance({"--model", path("mla"), "--reference", path("stored.safetensors"), "--text", path("text.txt")});
  ASSERT_EQ(stored.exit_code, 0) << stored.err;
  const auto value = [](const Json& report) { return report["metrics"]["kl_mean"]["value"].get<double>(); };
  EXPECT_NEAR(value(stored.json()), value(live.json()), 1e-5);
  EXPECT_EQ(stored.json()["reference"]["model"], path("source"));
}

TEST_F(DistanceCommand, CountsFlippedAnswers) {
  std::vector<MultipleChoiceItem> items;
  for (int i = 0; i < 12; ++i)
    items.push_back({"ab cab abc " + std::string(static_cast<std::size_t>(i), 'a'), {" ab", " cab", " b"}, i % 3});
  folder_->write("items.jsonl", write_multiple_choice_items(items));
  const auto metrics_of = [&](const std::string& model) {
    const auto result = distance({"--model", path(model), "--source", path("source"), "--items", path("items.jsonl")});
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return result.json()["items"][path("items.jsonl")];
  };
  const Json same = metrics_of("source"), other = metrics_of("mla");
  EXPECT_EQ(same["answer_changes"]["value"], 0);
  EXPECT_EQ(same["flip_rate"]["value"], 0);
  EXPECT_LE(other["flip_rate"]["value"], other["answer_changes"]["value"]);
  EXPECT_GT(other["answer_changes"]["value"], 0);
  EXPECT_EQ(other["flip_rate"]["n"], 12);
}

TEST_F(DistanceCommand, MistakesAreNamed) {
  const auto refused = [&](const std::vector<std::string>& arguments, int code) {
    const auto result = distance(arguments);
    EXPECT_EQ(result.exit_code, code) << result.err;
    return result.err;
  };
  EXPECT_THAT(refused({"--source", path("source"), "--text", path("text.txt")}, 2),
              HasSubstr("--model: name the model"));
  EXPECT_THAT(refused({"--model", path("mla"), "--text", path("text.txt")}, 2),
              HasSubstr("give either --source MODEL or --reference FILE"));
  EXPECT_THAT(refused({"--model", path("mla"), "--source", path("source")}, 2), HasSubstr("--text: name a text"));
  EXPECT_THAT(refused({"--model", path("mla"), "--reference", path("none.safetensors"), "--text", path("text.txt")}, 3),
              HasSubstr("none.safetensors"));
  ASSERT_EQ(
      distance({"--source", path("source"), "--text", path("text.txt"), "--save", path("other.safetensors")}).exit_code,
      0);
  EXPECT_THAT(refused({"--model", path("mla"), "--reference", path("other.safetensors"), "--text", path("text.txt"),
                       "--stride", "4"},
                      3),
              HasSubstr("stored for windows of 8 tokens at a stride of 8, not 8 at 4"));
}

TEST_F(DistanceCommand, SweepsRecordItForConvertedModels) {
  const auto config = folder_->write_config("sweep.json", R"({
     "model": {"path": "@/source"}, "results": "@/results",
     "compress": [{"name": "mha2mla", "rope": {"name": "high", "pairs": 1},
                   "low_rank": {"name": "joint_svd", "d_kv": 3}}],
     "evaluate": [{"task": "distance", "context": 8, "data": {"files": ["@/text.txt"]}}]})");
  const auto result = test::run_program({"run", config.string(), "--json", "--quiet"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const RunRecord record = read_record(result.json()["cells"][0]["record"].get<std::string>());
  const Json live = distance({"--model", path("mla"), "--source", path("source"), "--text", path("text.txt")}).json();
  ASSERT_EQ(record.evaluation.size(), 7U);
  for (const ScoreRecord& score : record.evaluation) {
    EXPECT_EQ(score.stage, "converted");
    EXPECT_NEAR(score.value, live["metrics"][score.metric]["value"].get<double>(), 1e-4) << score.metric;
    if (score.metric != "kl_mean") continue;
    EXPECT_EQ(score.per_sample.size(), live["tokens"]);
    EXPECT_EQ(score.group_unit, live["group_unit"]);
    EXPECT_FALSE(score.group_sizes.empty());
  }
}

}  // namespace
}  // namespace mla
