// `mlaforge run`, `check` and `show`: from a config to records.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/model/safetensors.h"
#include "core/store/record.h"
#include "tests/support/run_program.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_model_folder.h"

namespace mla {
namespace {

using std::filesystem::path;
using test::run_program;
using testing::HasSubstr;

class Run : public testing::Test {
 protected:
  void SetUp() override {
    test::write_tiny_inputs(folder_);
    config_ = folder_.write_config("tiny.json", R"(// a tiny experiment
      {"model": {"path": "@/model"},
       "results": "@/results",
       "calibration": {"files": ["@/text.txt"], "documents": {"separator": "###"}},
       "compress": [{"name": "mha2mla", "rope": {"name": "two_norm", "pairs": 1},
                     "low_rank": {"name": "joint_svd", "d_kv": 3}}],
       "train": {"steps": 4, "batch_rows": 2, "sequence_length": 16, "learning_rate": 0.01,
                 "data": {"files": ["@/text.txt"], "documents": {"separator": "###"}}},
       "evaluate": [{"task": "perplexity", "context": 32,
                     "data": {"files": ["@/text.txt"], "documents": {"separator": "###"}}}],
       "grid": {"compress[0].low_rank.d_kv": [2, 4]},
       "baseline": true})");
  }
  test::ProgramResult run(std::vector<std::string> more = {}) const {
    more.insert(more.begin(), {"run", config_.string(), "--json", "--quiet"});
    return run_program(more);
  }

  test::TemporaryFolder folder_;
  std::filesystem::path config_;
};

TEST_F(Run, LeavesOneRecordPerCell) {
  const auto result = run();
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const Json cells = result.json()["cells"];
  ASSERT_EQ(cells.size(), 3u);
  EXPECT_EQ(cells[0]["cell"], "baseline");
  const RunRecord record = read_record(cells[1]["record"].get<std::string>());
  EXPECT_EQ(record.head.status, RunStatus::kComplete);
  EXPECT_EQ(record.compression.size(), 2u);
  EXPECT_EQ(record.compression[0].latent_width, 4);
  EXPECT_EQ(record.training.loss.size(), 4u);
  ASSERT_EQ(record.cache.size(), 3u);
  for (const CacheRecord& cache : record.cache) EXPECT_EQ(cache.predicted_bytes, cache.counted_bytes);
  EXPECT_LT(record.cache[1].counted_bytes, record.cache[0].counted_bytes);
  std::set<std::string> stages;
  for (const ScoreRecord& score : record.evaluation) stages.insert(score.stage);
  EXPECT_EQ(stages, (std::set<std::string>{"source", "converted", "fine_tuned"}));
  EXPECT_EQ(record.provenance.data_hashes.size(),
            6u);  // config, weights and tokenizer of the model; three roles of text
}

TEST_F(Run, CompleteCellsAreSkippedAndChangedOnesAreNot) {
  const auto created = [&](const test::ProgramResult& result, int cell) {
    return read_record(result.json()["cells"][cell]["record"].get<std::string>()).head;
  };
  const auto first = run();
  ASSERT_EQ(first.exit_code, 0) << first.err;
  const std::string record = first.json()["cells"][1]["record"];
  const auto written = std::filesystem::last_write_time(record);
  ASSERT_EQ(run().exit_code, 0);
  EXPECT_EQ(std::filesystem::last_write_time(record), written);
  const std::string hash = created(first, 1).content_hash;
  const auto changed = run({"--set", "train.steps=5"});
  ASSERT_EQ(changed.exit_code, 0);
  EXPECT_NE(created(changed, 1).content_hash, hash);
  EXPECT_NE(std::filesystem::last_write_time(record), written);
}

TEST_F(Run, SameConfigSameNumbers) {
  const Json first = run().json()["cells"];
  const Json again = run({"--force"}).json()["cells"];
  for (std::size_t i = 0; i < first.size(); ++i) EXPECT_EQ(first[i]["scores"], again[i]["scores"]);
}

TEST_F(Run, ReadsRowsOfTokenIdsFromTensors) {
  const at::Tensor ids = at::randint(3, 8, {6, 16}, at::kShort), lengths = at::arange(11, 17, at::kInt);
  const path tensors = folder_ / "rows.safetensors";
  write_safetensors(tensors, {{"train_ids", ids}, {"train_len", lengths}});
  Json rows = Json::array();
  for (std::int64_t i = 0; i < 6; ++i) {
    rows.push_back(Json::array());
    for (std::int64_t t = 0; t < 11 + i; ++t) rows.back().push_back(ids[i][t].item<int>());
  }
  const path json = folder_.write("rows.json", Json{{"ids", rows}}.dump());
  const auto scores = [&](const std::string& data) {
    const auto result = run({"--set", "train.data=" + data, "--set", "train.packing=rows", "--set", "train.steps=3",
                             "--set", "evaluate[0].data=" + data, "--grid", "compress[0].low_rank.d_kv=2"});
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return result.json()["cells"][1]["scores"];
  };
  EXPECT_EQ(scores(R"({"files": [")" + tensors.string() + R"("], "tensors": "train"})"),
            scores(R"({"files": [")" + json.string() + R"("]})"));
  const auto train_on = [&](const std::string& more) {
    return run({"--set", R"(train.data={"files": [")" + tensors.string() + "\"]" + more + "}"});
  };
  EXPECT_THAT(train_on("").err, HasSubstr("train.data.tensors: name the rows of"));
  const auto message = [](const test::ProgramResult& result) {
    return result.json()["cells"][1]["message"].get<std::string>();
  };
  EXPECT_THAT(message(train_on(R"(, "tensors": "test")")),
              HasSubstr("no tensor test_ids; \"tensors\" may be one of: train"));
  write_safetensors(tensors, {{"train_ids", ids}, {"train_len", lengths + 1}});
  EXPECT_THAT(message(train_on(R"(, "tensors": "train")")), HasSubstr("train_len[5] = 17: outside 1..16"));
}

TEST_F(Run, TwoStagesTrainPartialRopeAloneFirst) {
  const auto result = run({"--grid", "compress[0].low_rank.d_kv=2", "--grid", "train.partial_rope_steps=0,3"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const Json cells = result.json()["cells"];
  ASSERT_EQ(cells.size(), 3u);  // one baseline: the stages are about compression
  const RunRecord one = read_record(cells[1]["record"].get<std::string>()),
                  two = read_record(cells[2]["record"].get<std::string>());
  EXPECT_EQ(two.training.step, one.training.step);
  EXPECT_EQ(two.training.tokens, one.training.tokens);
  EXPECT_NE(two.training.loss[0], one.training.loss[0]);  // of a model with partial RoPE and no low rank
  std::vector<std::string> stages;
  for (const ScoreRecord& score : two.evaluation) {
    if (stages.empty() || stages.back() != score.stage) stages.push_back(score.stage);
  }
  EXPECT_THAT(stages, testing::ElementsAre("source", "partial_rope", "converted", "fine_tuned"));
  EXPECT_EQ(two.compression[0].cached_elements, one.compression[0].cached_elements);
  EXPECT_NE(two.compression[0].singular_values, one.compression[0].singular_values);  // of trained weights
  for (const CacheRecord& cache : two.cache) EXPECT_EQ(cache.predicted_bytes, cache.counted_bytes);
}

TEST_F(Run, MistakesAreFoundBeforeAnyWork) {
  const auto refused = [&](const std::string& assignment) {
    const auto result = run({"--set", assignment});
    EXPECT_EQ(result.exit_code, 2) << result.err;
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
    EXPECT_FALSE(std::filesystem::exists(folder_ / "results"));
    return result.err;
  };
  EXPECT_THAT(refused("train.stpes=5"), HasSubstr("train.stpes: unknown key; did you mean 'steps'"));
  EXPECT_THAT(refused("compress[0].rope.name=two_nrm"), HasSubstr("did you mean 'two_norm'"));
  EXPECT_THAT(refused("compress[0].rope.pairs=9"), HasSubstr("rope.pairs = 9"));
  EXPECT_THAT(refused("calibration=null"), HasSubstr("calibration"));
  EXPECT_THAT(refused("evaluate[0].stride=64"), HasSubstr("stride"));
  EXPECT_THAT(refused("train.partial_rope_steps=4"),
              HasSubstr("train.partial_rope_steps = 4: expected 0, or fewer than steps (4)"));
  EXPECT_THAT(run({"--set", "train.partial_rope_steps=2", "--set", "compress=[]", "--set", "grid={}", "--set",
                   "baseline=false"})
                  .err,
              HasSubstr("train.partial_rope_steps: two stages need one pass"));
}

TEST_F(Run, OneFailingCellIsRecordedAndTheRestGoOn) {
  // Rows are long enough for one cell's sequence length only.
  const auto result = run({"--grid", "compress[0].low_rank.d_kv=2", "--grid", "train.sequence_length=16,100000"});
  EXPECT_EQ(result.exit_code, 1);
  const Json cells = result.json()["cells"];
  EXPECT_EQ(result.json()["failed"], 2);  // with the baseline of that length
  EXPECT_EQ(cells[2]["status"], "complete");
  EXPECT_EQ(cells[3]["status"], "failed");
  EXPECT_NE(cells[3]["message"], "");
  EXPECT_EQ(read_record(cells[3]["record"].get<std::string>()).head.status, RunStatus::kFailed);
}

TEST_F(Run, UnwritableResultsAreOneLine) {
  folder_.write("results", "a file where the folder should be");
  const auto result = run();
  EXPECT_EQ(result.exit_code, 3);
  EXPECT_THAT(result.err, HasSubstr("results"));
}

TEST_F(Run, CheckPrintsThePlanWithoutReadingWeights) {
  std::filesystem::resize_file(folder_ / "model/model.safetensors", 1000);
  const auto result = run_program({"check", config_.string(), "--json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const Json cells = result.json()["cells"];
  EXPECT_EQ(cells[0]["cache_ratio"], 1.0);
  EXPECT_EQ(cells[1]["cached_elements_per_token"], 2 * (2 * 2 + 2 * 2));
}

TEST_F(Run, ShowPrintsTheResolvedConfig) {
  const auto result = run_program({"show", config_.string(), "--set", "train.steps=77", "--json"});
  ASSERT_EQ(result.exit_code, 0);
  EXPECT_EQ(result.json()["train"]["steps"], 77);
}

}  // namespace
}  // namespace mla
