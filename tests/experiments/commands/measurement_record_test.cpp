// Records of models that are measured by themselves: evaluate, distance, recall.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/store/record.h"
#include "core/text/multiple_choice_item.h"
#include "tests/support/run_program.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_model_folder.h"

namespace mla {
namespace {

using test::run_program;
using test::run_script;
using testing::HasSubstr;

class MeasurementRecords : public testing::Test {
 protected:
  void SetUp() override { test::write_tiny_inputs(folder_); }

  std::string model() const { return (folder_ / "model").string(); }
  std::string text() const { return (folder_ / "text.txt").string(); }
  std::string file(const std::string& name) const { return (folder_ / name).string(); }
  static const ScoreRecord& score(const RunRecord& record, const std::string& metric) {
    for (const ScoreRecord& each : record.evaluation) {
      if (each.metric == metric) return each;
    }
    throw std::runtime_error("no score " + metric);
  }

  test::TemporaryFolder folder_;
};

TEST_F(MeasurementRecords, EvaluateKeepsThePerplexityWithItsTokens) {
  const std::vector<std::string> words = {"evaluate",    "--model", model(),     "--perplexity", text(),
                                          "--separator", "###",     "--context", "32",           "--json"};
  auto both = words;
  both.insert(both.end(), {"-o", file("report.json"), "--output", file("results/models/model.h5")});
  const auto result = run_program(both);
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const RunRecord record = read_record(folder_ / "results/models/model.h5");
  EXPECT_EQ(record.head.experiment, "evaluate");
  EXPECT_EQ(record.head.cell, "model on text.txt");
  EXPECT_EQ(score(record, "perplexity").value, result.json()["perplexity"].get<double>());
  EXPECT_EQ(std::ssize(score(record, "nll").per_sample), result.json()["tokens"].get<std::int64_t>());
  EXPECT_TRUE(record.provenance.data_hashes.contains("evaluate[0][0]"));
  ASSERT_EQ(record.cache.size(), 1u);
  EXPECT_GT(record.cache.front().counted_bytes, 0);
  EXPECT_TRUE(read_json(folder_ / "report.json").contains("nll"));
  EXPECT_FALSE(result.json().contains("nll"));

  auto again = words;
  again.insert(again.end(), {"--record", file("again.h5")});
  const auto named = run_program(again);
  ASSERT_EQ(named.exit_code, 0) << named.err;
  EXPECT_EQ(read_record(folder_ / "again.h5").head.content_hash, record.head.content_hash);
  auto other = words;
  other[8] = "16";
  other.insert(other.end(), {"-o", file("other.h5")});
  ASSERT_EQ(run_program(other).exit_code, 0);
  EXPECT_NE(read_record(folder_ / "other.h5").head.content_hash, record.head.content_hash);

  const auto table = run_script("mlaforge-report table " + file("results") +
                                " --row model --metric perplexity --metric bytes_per_token --json");
  ASSERT_EQ(table.exit_code, 0) << table.err;
  EXPECT_THAT(table.out, HasSubstr("\"model\":\"model\""));
  EXPECT_THAT(table.out, HasSubstr("bytes_per_token"));
  EXPECT_EQ(run_script("mlaforge-report verify " + file("results")).exit_code, 0);
}

TEST_F(MeasurementRecords, EvaluateThroughACacheKeepsWhatWasDecoded) {
  const auto result = run_program({"evaluate", "--model", model(), "--perplexity", text(), "--context", "32", "--cache",
                                   "rtn4", "-o", file("cached.h5"), "--json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const RunRecord record = read_record(folder_ / "cached.h5");
  ASSERT_EQ(record.cached_decoding.size(), 1u);
  EXPECT_EQ(record.cached_decoding.front().perplexity, result.json()["perplexity"].get<double>());
  EXPECT_EQ(score(record, "perplexity").task, "perplexity, cached");
}

TEST_F(MeasurementRecords, TasksStandInARecordLikeAnExperiments) {
  folder_.write("items.jsonl",
                write_multiple_choice_items({{"ab abc ab", {" cab", " ba"}, 0}, {"abc ab", {" ab", " cab"}, 1}}));
  const auto config = folder_.write_config(
      "tasks.json", R"({"evaluate": [{"task": "multiple_choice", "name": "mine", "items": "@/items.jsonl"}]})");
  const auto result = run_program({"evaluate", "--model", model(), "--tasks", config.string(), "--keep", file("keep"),
                                   "--output", file("tasks.h5"), "--json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const RunRecord record = read_record(folder_ / "tasks.h5");
  EXPECT_EQ(score(record, "accuracy").task, "mine");
  EXPECT_EQ(score(record, "accuracy").per_sample.size(), 2u);
  EXPECT_EQ(record.config["evaluate"][0]["name"], "mine");
  EXPECT_TRUE(record.provenance.data_hashes.contains("evaluate[0][0]"));
}

TEST_F(MeasurementRecords, DistanceKeepsEveryTokensDivergence) {
  const auto result = run_program({"distance", "--model", model(), "--source", model(), "--text", text(), "--separator",
                                   "###", "--context", "32", "--output", file("distance.h5"), "--json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const RunRecord record = read_record(folder_ / "distance.h5");
  EXPECT_EQ(record.head.cell, "model from model");
  EXPECT_EQ(score(record, "kl_mean").value, result.json()["metrics"]["kl_mean"]["value"].get<double>());
  EXPECT_EQ(std::ssize(score(record, "kl_mean").per_sample), result.json()["tokens"].get<std::int64_t>());
  const auto nothing = run_program({"distance", "--source", model(), "--text", text(), "--save", file("s.safetensors"),
                                    "--output", file("none.h5")});
  EXPECT_EQ(nothing.exit_code, 2);
  EXPECT_THAT(nothing.err, HasSubstr("--output: without --model there is nothing to record"));
}

TEST_F(MeasurementRecords, RecallKeepsItsItems) {
  const auto result = run_program({"recall", "--model", model(), "--lengths", "200", "--depths", "0,1", "--items", "3",
                                   "--output", file("recall.h5"), "--json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const RunRecord record = read_record(folder_ / "recall.h5");
  EXPECT_EQ(score(record, "exact").per_sample.size(), 6u);
  EXPECT_EQ(record.config["evaluate"][0]["recall"]["items"], 3);
}

}  // namespace
}  // namespace mla
