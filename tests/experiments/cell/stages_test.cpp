// Cells of several passes and several stages.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/model/checkpoint.h"
#include "core/store/record.h"
#include "tests/support/results.h"
#include "tests/support/run_program.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_model_folder.h"

namespace mla {
namespace {

using test::records_in;
using test::run_program;
using testing::ElementsAre;
using testing::HasSubstr;

class Stages : public testing::Test {
 protected:
  void SetUp() override { test::write_tiny_inputs(folder_); }
  /// A config of the tiny model with `rest`'s keys, and text to train and evaluate on.
  std::filesystem::path config(const std::string& name, const std::string& rest) {
    std::string text = R"({"model": {"path": "@/model"}, "results": "@/results", "checkpoint_seconds": 0,
       "evaluate": [{"task": "perplexity", "context": 32,
                     "data": {"files": ["@/text.txt"], "documents": {"separator": "###"}}}],)" +
                       rest + "}";
    const std::string data =
        R"("batch_rows": 2, "sequence_length": 16, "data": {"files": ["@/text.txt"], "documents": {"separator": "###"}})";
    for (std::size_t at = text.find("DATA"); at != std::string::npos; at = text.find("DATA")) text.replace(at, 4, data);
    return folder_.write_config(name + ".json", text);
  }
  test::ProgramResult run(const std::filesystem::path& config) {
    return run_program({"run", config.string(), "--json", "--quiet"});
  }
  RunRecord record_of(const std::filesystem::path& config) {
    const auto result = run(config);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    const auto records = records_in(folder_ / "results" / config.stem());
    EXPECT_EQ(records.size(), 1u);
    return records.begin()->second;
  }
  std::string refusal(const std::string& rest) {
    const auto result = run(config("refused", rest));
    EXPECT_EQ(result.exit_code, 2);
    return result.err;
  }
  test::TemporaryFolder folder_;
};

std::vector<std::string> measured(const RunRecord& record) {
  std::vector<std::string> stages;
  for (const CacheRecord& cache : record.cache) stages.push_back(cache.stage);
  return stages;
}

double nll(const RunRecord& record, const std::string& stage) {
  for (const ScoreRecord& score : record.evaluation) {
    if (score.stage == stage && score.metric == "nll") return score.value;
  }
  ADD_FAILURE() << "no nll of " << stage;
  return 0;
}

TEST_F(Stages, FourOfThemAreMeasuredInOrder) {
  const auto file = config("four", R"("save_model": "@/models", "stages": [
      {"compress": [{"name": "partial_rope", "rope": {"name": "high", "pairs": 1}}]},
      {"train": {"steps": 4, "learning_rate": 0.003, DATA}},
      {"compress": [{"name": "low_rank", "low_rank": {"name": "joint_svd", "d_kv": 3}}]},
      {"train": {"steps": 6, "learning_rate": 0.003, "seed": 5, DATA}}])");
  const RunRecord record = record_of(file);
  EXPECT_THAT(measured(record), ElementsAre("source", "converted_1", "fine_tuned_1", "converted", "fine_tuned"));
  EXPECT_EQ(record.training.step.size(), 10u);
  EXPECT_LT(nll(record, "fine_tuned_1"), nll(record, "converted_1"));
  EXPECT_LT(nll(record, "fine_tuned"), nll(record, "converted"));
  for (const CacheRecord& cache : record.cache) EXPECT_EQ(cache.counted_bytes, cache.predicted_bytes);
  ASSERT_EQ(record.compression.size(), 2u);
  EXPECT_EQ(record.compression[0].pairs, (std::vector<std::vector<std::int64_t>>{{0}, {0}}));
  EXPECT_EQ(record.compression[0].latent_width, 6);
  EXPECT_GT(record.compression[0].joint_error, 0);
  const Checkpoint model = load_checkpoint(folder_ / "models/default");
  EXPECT_EQ(model.decoder.spec().attention(1).kind(), "latent");
  const auto made = read_record_head(folder_ / "results/four/default.h5").created;
  EXPECT_EQ(run(file).exit_code, 0);
  EXPECT_EQ(read_record_head(folder_ / "results/four/default.h5").created, made) << "a finished cell is not run again";
}

TEST_F(Stages, TwoOfThemAreTheShortForm) {
  const RunRecord brief = record_of(config("brief", R"(
      "compress": [{"name": "mha2mla", "rope": {"name": "high", "pairs": 1},
                    "low_rank": {"name": "joint_svd", "d_kv": 3}}],
      "train": {"steps": 4, "learning_rate": 0.003, DATA})"));
  const RunRecord stages = record_of(config("stages", R"("stages": [
      {"compress": [{"name": "mha2mla", "rope": {"name": "high", "pairs": 1},
                     "low_rank": {"name": "joint_svd", "d_kv": 3}}]},
      {"train": {"steps": 4, "learning_rate": 0.003, DATA}}])"));
  EXPECT_EQ(measured(stages), measured(brief));
  EXPECT_EQ(stages.evaluation, brief.evaluation);
  EXPECT_EQ(stages.compression, brief.compression);
  EXPECT_EQ(stages.training, brief.training);
}

TEST_F(Stages, APassPlansOnWhatThePassBeforeLeft) {
  const RunRecord record = record_of(config("chain", R"("save_model": "@/models", "compress": [
      {"name": "merge_layers", "merge": [{"layers": [0, 1], "weights": [0.6, 0.4]}]},
      {"name": "mha2mla", "rope": {"name": "two_norm", "pairs": 1}, "low_rank": {"name": "joint_svd", "d_kv": 3}}],
      "calibration": {"files": ["@/text.txt"], "documents": {"separator": "###"}, "length": 16})"));
  EXPECT_THAT(measured(record), ElementsAre("source", "converted"));
  ASSERT_EQ(record.compression.size(), 1u);
  EXPECT_EQ(record.compression[0].cached_elements_before, 32);
  EXPECT_EQ(record.compression[0].cached_elements, 10);
  EXPECT_EQ(record.cache[0].counted_bytes * 10, record.cache[1].counted_bytes * 64);
  EXPECT_EQ(load_spec(folder_ / "models/default").layer_count(), 1);
  ASSERT_EQ(record.passes.size(), 2u);
  EXPECT_EQ(record.passes[0]["pass"], "merge_layers");
  EXPECT_EQ(record.passes[0]["cached_elements_per_token"], 32);
  EXPECT_EQ(record.passes[1]["cached_elements_per_token_before"], 32);
  EXPECT_EQ(record.passes[1]["cached_elements_per_token"], 10);
  EXPECT_GT(record.passes[1]["layers"][0]["relative_error"]["joint"], 0);
}

TEST_F(Stages, ABaselineKeepsTheTrainingAlone) {
  const auto file = config("base", R"("baseline": true, "stages": [
      {"compress": [{"name": "mha2mla", "rope": {"name": "high", "pairs": 1},
                     "low_rank": {"name": "joint_svd", "d_kv": 3}}]},
      {"train": {"steps": 2, "learning_rate": 0.003, DATA}}],
      "grid": {"stages[0].compress[0].low_rank.d_kv": [2, 3]})");
  const auto result = run_program({"run", file.string(), "--json", "--quiet", "--dry-run"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  std::vector<std::string> names;
  const Json report = result.json();
  for (const Json& cell : report["cells"]) names.push_back(cell["cell"]);
  EXPECT_THAT(names, ElementsAre("baseline", "d_kv=2", "d_kv=3"));
}

TEST_F(Stages, WhatMakesNoSenseIsRefused) {
  EXPECT_THAT(refusal(R"("stages": [{"compress": [{"name": "share_attention", "layers": [1]}]}],
                         "train": {"steps": 2, DATA})"),
              HasSubstr("stages: give either these, or `compress` and `train`"));
  EXPECT_THAT(refusal(R"("stages": [{}])"), HasSubstr("stages[0]: a stage has either `compress` or `train`"));
  EXPECT_THAT(refusal(R"("stages": [{"train": {"steps": 4, "partial_rope_steps": 2, DATA}}])"),
              HasSubstr("stages[0].train.partial_rope_steps: stages say this as"));
  EXPECT_THAT(refusal(R"("stages": [{"compress": [{"name": "low_rank"}]}])"),
              HasSubstr("stages[0].compress[0]: layer 0 is of kind grouped_query"));
  EXPECT_THAT(refusal(R"("stages": [{"compress": [{"name": "share_attention", "layers": [1]}]},
                                    {"compress": [{"name": "merge_layers", "drop": [0]}]}])"),
              HasSubstr("stages[1].compress[0]: the layers that are left[0]: reads the attention_weights"));
}

}  // namespace
}  // namespace mla
