// The task kind "multiple_choice" of an experiment, from config to record.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "core/store/record.h"
#include "core/text/multiple_choice_item.h"
#include "tests/support/run_program.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_model_folder.h"

namespace mla {
namespace {

using testing::HasSubstr;

class MultipleChoiceRun : public testing::Test {
 protected:
  void SetUp() override {
    test::write_tiny_model(folder_ / "model");
    std::vector<MultipleChoiceItem> items;
    for (int i = 0; i < 10; ++i)
      items.push_back({"ab cab abc " + std::string(static_cast<std::size_t>(i), 'a'), {" ab", " cab", " b"}, i % 3});
    write(items);
    folder_.write("text.txt", "ab abc ab cab ba abc ab ab abc ab cab ba");
    config_ = folder_.write_config("choices.json", R"({
       "model": {"path": "@/model"}, "results": "@/results",
       "compress": [{"name": "mha2mla", "rope": {"name": "high", "pairs": 1},
                     "low_rank": {"name": "joint_svd", "d_kv": 3}}],
       "train": {"steps": 2, "batch_rows": 1, "sequence_length": 8, "learning_rate": 0.01,
                 "data": {"files": ["@/text.txt"]}},
       "evaluate": [{"task": "multiple_choice", "name": "letters", "items": "@/items.jsonl"}],
       "baseline": true,
       "grid": {"compress[0].rope.name": ["high", "low"], "train.seed": [1, 2]}})");
  }

  std::filesystem::path items_file() const { return folder_ / "items.jsonl"; }
  void write(const std::vector<MultipleChoiceItem>& items) const {
    folder_.write("items.jsonl", write_multiple_choice_items(items));
  }
  test::ProgramResult run(std::vector<std::string> more = {}) const {
    more.insert(more.begin(), {"run", config_.string(), "--json", "--quiet"});
    return test::run_program(more);
  }

  test::TemporaryFolder folder_;
  std::filesystem::path config_;
};

TEST_F(MultipleChoiceRun, RecordsThreeAccuraciesWithTheirItems) {
  const auto result = run();
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const Json cells = result.json()["cells"];
  std::set<std::string> names;
  for (const Json& cell : cells) names.insert(cell["cell"].get<std::string>());
  EXPECT_EQ(names.size(), 6U);
  EXPECT_TRUE(names.contains("baseline,seed=1") && names.contains("baseline,seed=2")) << "one baseline for each seed";
  const RunRecord record = read_record(cells[2]["record"].get<std::string>());
  std::set<std::string> metrics;
  for (const ScoreRecord& score : record.evaluation) {
    EXPECT_EQ(score.task, "letters");
    if (!score.metric.starts_with("accuracy") && !score.metric.starts_with("flip_rate")) continue;
    EXPECT_EQ(score.higher_is_better, !score.metric.starts_with("flip_rate"));
    EXPECT_EQ(score.n, 10);
    EXPECT_EQ(score.per_sample.size(), 10U);
    EXPECT_TRUE(score.standard_error.has_value());
    metrics.insert(score.stage + " " + score.metric);
  }
  EXPECT_EQ(metrics.size(), 15U);  // three accuracies in three stages, and what flipped in two of them
  const auto told = std::find_if(record.evaluation.begin(), record.evaluation.end(),
                                 [](const auto& score) { return score.metric == "log_likelihood"; });
  ASSERT_NE(told, record.evaluation.end());
  EXPECT_EQ(told->per_sample.size(), 30U);
  EXPECT_EQ(told->group_sizes, std::vector<std::int64_t>(10, 3));
  EXPECT_TRUE(metrics.contains("converted accuracy_normalized"));
  const auto per_item = [&](const std::string& stage, const std::string& metric) {
    for (const ScoreRecord& score : record.evaluation) {
      if (score.stage == stage && score.metric == metric) return score.per_sample;
    }
    return std::vector<double>{};
  };
  const auto before = per_item("source", "accuracy"), after = per_item("fine_tuned", "accuracy"),
             flips = per_item("fine_tuned", "flip_rate");
  ASSERT_EQ(flips.size(), 10U);
  for (std::size_t i = 0; i < flips.size(); ++i) EXPECT_EQ(flips[i], before[i] == after[i] ? 0 : 1);
  const auto changes = per_item("fine_tuned", "answer_changes");
  ASSERT_EQ(changes.size(), 10U);
  for (std::size_t i = 0; i < flips.size(); ++i)
    EXPECT_LE(flips[i], changes[i]) << "who answers the same is as right as before";
  EXPECT_TRUE(record.provenance.data_hashes.contains("evaluate[0][0]"));
}

TEST_F(MultipleChoiceRun, OtherItemsAreAnotherExperiment) {
  ASSERT_EQ(run().exit_code, 0);
  const auto hash = [&] { return read_record_head(folder_ / "results/choices/baseline,seed=1.h5").content_hash; };
  const std::string before = hash();
  write({{"ab", {" a", " b"}, 0}});
  ASSERT_EQ(run().exit_code, 0);
  EXPECT_NE(hash(), before);
}

TEST_F(MultipleChoiceRun, MistakesAreNamed) {
  const auto refused = [&](const std::string& assignment, int code) {
    const auto result = run({"--set", assignment});
    EXPECT_EQ(result.exit_code, code) << assignment;
    return result.err;
  };
  EXPECT_THAT(refused("evaluate[0].items=", 2),
              HasSubstr("evaluate[0].items: name a file or a folder of multiple_choice items"));
  EXPECT_THAT(refused("evaluate[0].task=multiple_choise", 2), HasSubstr("did you mean 'multiple_choice'"));
  EXPECT_THAT(refused("evaluate[0].max_items=-1", 2), HasSubstr("evaluate[0].max_items = -1"));
}

}  // namespace
}  // namespace mla
