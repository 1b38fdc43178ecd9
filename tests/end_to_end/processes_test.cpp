// mpirun with the program that was built: several processes do what one does.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/store/record.h"
#include "tests/support/run_program.h"
#include "tests/support/sanitizers.h"
#include "tests/support/tiny_model_folder.h"

namespace mla {
namespace {

using test::ProgramResult;
using test::run_script;
using testing::HasSubstr;

constexpr double kLossTolerance = 1e-5;     // of float32 training: sums of gradients are rounded in another order
constexpr double kLongRunTolerance = 1e-3;  // after 200 steps

/// Root may start processes here, and more of them than there are processors. What MPI leaves behind at its end is no
/// leak of the program.
const std::string kMpirun =
    "export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMP_NUM_THREADS=1 ASAN_OPTIONS=detect_leaks=0\n"
    "together() { mpirun --oversubscribe --bind-to none -n 2 mlaforge \"$@\"; }\n";

std::string mpirun(int ranks) { return cat("mpirun --oversubscribe --bind-to none -n ", ranks, " mlaforge"); }

class Processes : public testing::Test {
 protected:
  void SetUp() override {
    if (run_script("command -v mpirun").exit_code != 0) GTEST_SKIP() << "mpirun is not installed";
    const ProgramResult probe = run_script(kMpirun + "together list");
    if (probe.err.find("built without MPI") != std::string::npos) GTEST_SKIP() << "this build is without MPI";
    test::write_tiny_model(folder_ / "model");
    std::string text;
    for (int i = 0; i < 400; ++i)
      text += "ab abc ab cab ba\nabc ab" + std::string(static_cast<std::size_t>(i % 17), 'b') + "###";
    folder_.write("text.txt", text);
    run_config_ = folder_.write_config("run.json", R"({
       "model": {"path": "@/model"},
       "calibration": {"files": ["@/text.txt"], "documents": {"separator": "###"}},
       "compress": [{"name": "mha2mla", "rope": {"name": "two_norm", "pairs": 1},
                     "low_rank": {"name": "joint_svd", "d_kv": 3}}],
       "train": {"steps": 50, "batch_rows": 3, "accumulation": 2, "sequence_length": 24, "learning_rate": 0.003,
                 "document_boundaries": "masked",
                 "data": {"files": ["@/text.txt"], "documents": {"separator": "###"}}},
       "evaluate": [{"task": "perplexity", "context": 32,
                     "data": {"files": ["@/text.txt"], "documents": {"separator": "###"}}}]})");
    pretrain_config_ = folder_.write_config("pretrain.json", R"({
       "output": "@/new",
       "tokenizer": "@/model/tokenizer.json",
       "config": {"model_type": "llama", "vocab_size": 265, "hidden_size": 16, "intermediate_size": 24,
                  "num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": 64},
       "train": {"steps": 50, "batch_rows": 5, "sequence_length": 32, "learning_rate": 0.003,
                 "data": {"files": ["@/text.txt"], "documents": {"separator": "###"}}}})");
  }

  test::TemporaryFolder folder_;
  std::filesystem::path run_config_, pretrain_config_;
};

TEST_F(Processes, RunEqualsOneProcess) {
  const std::string arguments =
      "run " + run_config_.string() + " --json --quiet --set results=" + folder_.path().string();
  const ProgramResult alone = run_script(kMpirun + "mlaforge " + arguments + "/alone");
  ASSERT_EQ(alone.exit_code, 0) << alone.err;
  const ProgramResult together = run_script(kMpirun + "together " + arguments + "/together");
  ASSERT_EQ(together.exit_code, 0) << together.err;
  const std::string cell = alone.json()["cells"][0]["cell"];
  const auto read = [&](const std::string& results) {
    return read_record(folder_ / (results + "/run/" + cell + ".h5"));
  };
  const RunRecord one = read("alone"), two = read("together");
  ASSERT_EQ(one.training.loss.size(), 50u);
  EXPECT_LT(one.training.loss.back(), one.training.loss.front());
  EXPECT_THAT(two.training.loss, testing::Pointwise(testing::DoubleNear(kLossTolerance), one.training.loss));
  EXPECT_EQ(two.training.tokens, one.training.tokens);
  ASSERT_EQ(two.evaluation.size(), one.evaluation.size());
  double largest = 0;
  for (std::size_t i = 0; i < 50; ++i)
    largest = std::max(largest, std::abs(one.training.loss[i] - two.training.loss[i]));
  RecordProperty("largest_difference", cat(largest));
  // One of the processes speaks: this is one JSON object, and the record is there for the next run.
  EXPECT_EQ(together.json()["cells"].size(), 1u);
  const ProgramResult again = run_script(kMpirun + "together run " + run_config_.string() +
                                         " --set results=" + folder_.path().string() + "/together");
  EXPECT_EQ(again.exit_code, 0) << again.err;
  EXPECT_THAT(again.err, HasSubstr("complete already"));
}

TEST_F(Processes, PretrainEqualsOneProcess) {
  const std::string arguments = "pretrain " + pretrain_config_.string() + " --json --quiet";
  const Json alone = run_script(kMpirun + "mlaforge " + arguments).json();
  const Json together = run_script(kMpirun + "together " + arguments).json();
  EXPECT_NEAR(together["final_loss"].get<double>(), alone["final_loss"].get<double>(), kLossTolerance);
  EXPECT_EQ(together["tokens"], alone["tokens"]);
  EXPECT_TRUE(std::filesystem::exists(folder_ / "new/config.json"));
}

// Every way to divide states among two and four processes, of which the last one has fewer rows than the others.
TEST_F(Processes, ShardsEqualOneProcess) {
  const auto losses = [&](const std::string& launcher, const std::string& more) {
    const ProgramResult result =
        run_script(kMpirun + launcher + " pretrain " + pretrain_config_.string() + " --json --quiet " + more);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return read_record(folder_ / "new/training.h5").training.loss;
  };
  const std::vector<double> alone = losses("mlaforge", "");
  ASSERT_EQ(alone.size(), 50u);
  for (const char* shard : {"none", "optimizer", "gradients", "weights"}) {
    for (const int ranks : {2, 4}) {
      SCOPED_TRACE(cat(shard, ", ", ranks));
      EXPECT_THAT(losses(mpirun(ranks), cat("--set train.shard=", shard)),
                  testing::Pointwise(testing::DoubleNear(kLossTolerance), alone));
    }
  }
  // Several buckets of gradients, and passes that some processes do not make.
  const std::string wide =
      "--set config.hidden_size=64 --set config.intermediate_size=192 --set config.num_hidden_layers=3 "
      "--set train.batch_rows=1 --set train.accumulation=5 --set train.learning_rate=0.0005 ";
  const std::vector<double> alone_wide = losses("mlaforge", wide);
  for (const char* shard : {"none", "optimizer", "gradients", "weights"}) {
    for (const int ranks : {2, 4}) {
      SCOPED_TRACE(cat("wide, ", shard, ", ", ranks));
      const std::vector<double> together = losses(mpirun(ranks), cat(wide, "--set train.shard=", shard));
      EXPECT_THAT(together, testing::Pointwise(testing::DoubleNear(kLossTolerance), alone_wide));
      if (ranks == 2) {
        EXPECT_EQ(losses(mpirun(ranks), cat(wide, "--set train.overlap=false --set train.shard=", shard)), together);
      }
    }
  }
}

// 8.4 million parameters: their optimizer states are 67 MB, their gradients 34 MB, which two passes of a process leave
// whole between them unless they are divided, too.
TEST_F(Processes, ShardsMakeAProcessSmaller) {
  if (test::kSanitized) GTEST_SKIP() << "sanitizers change time and memory";
  const std::string wide =
      " --set config.hidden_size=256 --set config.intermediate_size=1024 --set config.num_hidden_layers=8 "
      "--set train.steps=2 --set train.sequence_length=16 --set train.batch_rows=1 --set train.accumulation=4 --json "
      "--quiet";
  // MPI's shared memory, how much of it is by chance, would count as the process's own. What is left varies by some MB.
  const auto least_peak = [&](const std::string& shard, int attempts) {
    std::vector<std::int64_t> peaks;
    for (int attempt = 0; attempt < attempts; ++attempt) {
      std::filesystem::remove_all(folder_ / "new");
      const ProgramResult result =
          run_script(kMpirun + "export MALLOC_MMAP_THRESHOLD_=65536 OMPI_MCA_btl=self,tcp\n" + mpirun(2) +
                     " pretrain " + pretrain_config_.string() + wide + " --set train.shard=" + shard);
      EXPECT_EQ(result.exit_code, 0) << result.err;
      peaks.push_back(result.json()["peak_memory_bytes"].get<std::int64_t>());
    }
    return *std::min_element(peaks.begin(), peaks.end());
  };
  constexpr std::int64_t kParameterBytes = 8 * (4 * 256 * 256 + 3 * 256 * 1024) * 4;
  const std::int64_t none = least_peak("none", 1), optimizer = least_peak("optimizer", 3),
                     gradients = least_peak("gradients", 3);
  // Two numbers a parameter, of which half stay; then one, of which half stay.
  EXPECT_GT(none - optimizer, kParameterBytes * 8 / 10) << none << " " << optimizer;
  EXPECT_GT(optimizer - gradients, kParameterBytes / 2 * 6 / 10) << optimizer << " " << gradients;
}

// A state is whole, whatever was divided among the processes that wrote it: another number of them goes on from it.
TEST_F(Processes, AKilledOneEndsAllAndAnyNumberGoesOn) {
  const std::string arguments = " pretrain " + pretrain_config_.string() +
                                " --json --set train.steps=200 --set checkpoint_seconds=0 --set train.shard=";
  const double alone = run_script(kMpirun + "mlaforge" + arguments + "none").json()["final_loss"].get<double>();
  std::filesystem::remove_all(folder_ / "new");
  const ProgramResult killed =
      run_script(kMpirun + mpirun(4) + arguments + "weights & started=$!\n" +
                 "for i in $(seq 3000); do sleep 0.01; [[ -n $(find " + (folder_ / "new").string() +
                 " -name training.safetensors 2>/dev/null) ]] && break; done\n"
                 "ranks=($(pgrep -P $started)); kill -9 ${ranks[2]}; wait $started");
  EXPECT_NE(killed.exit_code, 0);
  EXPECT_FALSE(std::filesystem::exists(folder_ / "new/config.json"));
  const ProgramResult rest = run_script(kMpirun + mpirun(2) + arguments + "optimizer");
  ASSERT_EQ(rest.exit_code, 0) << rest.err;
  EXPECT_THAT(rest.err, testing::ContainsRegex("goes on after [0-9]+ of 200 steps"));
  EXPECT_NEAR(rest.json()["final_loss"].get<double>(), alone, kLongRunTolerance);
}

TEST_F(Processes, ASignalToOneStopsAllAfterTheSameStep) {
  const ProgramResult result =
      run_script(kMpirun + "mpirun --oversubscribe --bind-to none -n 2 mlaforge pretrain " + pretrain_config_.string() +
                 " --quiet --set train.steps=1000000 & started=$!\n"
                 "for i in $(seq 200); do sleep 0.1; ranks=($(pgrep -P $started)); [[ ${#ranks[@]} -eq 2 && -d " +
                 (folder_ / "new").string() +
                 " ]] && break; done\n"
                 "sleep 1; kill -TERM ${ranks[1]}; wait $started");
  EXPECT_EQ(result.exit_code, 130);
  EXPECT_THAT(result.err, HasSubstr("mlaforge pretrain: stopped after step "));
  EXPECT_EQ(result.err.find("mlaforge pretrain:"), result.err.rfind("mlaforge pretrain:")) << result.err;
  EXPECT_FALSE(std::filesystem::exists(folder_ / "new/config.json"));
}

TEST_F(Processes, AMistakeIsToldOnce) {
  const ProgramResult config =
      run_script(kMpirun + "together pretrain " + pretrain_config_.string() + " --set train.setps=1");
  EXPECT_EQ(config.exit_code, 2);
  EXPECT_THAT(config.err, HasSubstr("did you mean 'steps'"));
  EXPECT_EQ(config.err.find("mlaforge pretrain:"), config.err.rfind("mlaforge pretrain:")) << config.err;
  const ProgramResult toy = run_script(kMpirun + "together toy --output " + (folder_ / "toy").string());
  EXPECT_EQ(toy.exit_code, 2);
  EXPECT_THAT(toy.err, HasSubstr("toy runs as one process, not as 2"));
  EXPECT_FALSE(std::filesystem::exists(folder_ / "toy"));
  const ProgramResult rows =
      run_script(kMpirun + "together pretrain " + pretrain_config_.string() + " --set train.batch_rows=1");
  EXPECT_EQ(rows.exit_code, 2);
  EXPECT_THAT(rows.err, HasSubstr("1 rows a step cannot be shared by 2 processes"));
}

// Rank 0 alone writes models, states and records, and evaluates: what fails there must leave nobody waiting.
TEST_F(Processes, AFailureOfOneIsRecordedAndTheOthersGoOn) {
  const std::string saving = "run " + run_config_.string() +
                             " --grid compress[0].low_rank.d_kv=2,3 --set results=" + folder_.path().string() +
                             "/results --set save_model=" + folder_.path().string() + "/models";
  folder_.write("models/d_kv=2", "a file where the model's folder should be");
  const ProgramResult failed = run_script(kMpirun + "together " + saving + " --json --quiet");
  EXPECT_EQ(failed.exit_code, 1) << failed.err;
  EXPECT_EQ(failed.json()["failed"], 1);
  EXPECT_EQ(failed.json()["cells"].size(), 2u);
  const auto record = [&](const std::string& cell) { return read_record(folder_ / ("results/run/" + cell + ".h5")); };
  EXPECT_EQ(record("d_kv=2").head.status, RunStatus::kFailed);
  EXPECT_EQ(record("d_kv=3").head.status, RunStatus::kComplete);
  EXPECT_EQ(failed.err.find("cannot be made"), failed.err.rfind("cannot be made")) << failed.err;
  std::filesystem::remove(folder_ / "models/d_kv=2");
  const ProgramResult retried = run_script(kMpirun + "together " + saving + " --retry-failed");
  EXPECT_EQ(retried.exit_code, 0) << retried.err;
  EXPECT_THAT(retried.err, HasSubstr("fine-tune: goes on after 50 of 50 steps"));
}

// In the middle of training, where the others wait for gradients. Which state file a cell has shows in its plan.
TEST_F(Processes, AFailureOfOneAmongStepsIsRecordedToo) {
  const std::string saving = "run " + run_config_.string() +
                             " --grid compress[0].low_rank.d_kv=2,3 --set results=" + folder_.path().string() +
                             "/results --set checkpoint_seconds=0 --json --quiet";
  ASSERT_EQ(run_script("mlaforge slurm " + saving.substr(4, saving.size() - 4 - 8) + " --dry-run").exit_code, 0);
  const Json plan = read_json(folder_ / "results/run/plan.json");
  const std::string state =
      "results/.cells/" + plan["cells"][0]["content_hash"].get<std::string>() + "/training.safetensors";
  folder_.write(state + "/full", "");          // no file can take the place of a folder that is not empty …
  folder_.write(state + ".damaged/full", "");  // … nor can that be moved away
  const ProgramResult failed = run_script(kMpirun + "together " + saving);
  EXPECT_EQ(failed.exit_code, 1) << failed.err;
  EXPECT_EQ(failed.json()["failed"], 1);
  EXPECT_EQ(failed.json()["cells"].size(), 2u);
  EXPECT_EQ(read_record(folder_ / "results/run/d_kv=3.h5").head.status, RunStatus::kComplete);
}

// Rank 1 sees another disk, or has less memory: here it cannot read the text.
TEST_F(Processes, AFailureAboveRankZeroEndsAllWithItsMessage) {
  const ProgramResult result =
      run_script(kMpirun + "mpirun --oversubscribe --bind-to none -n 1 mlaforge pretrain " + pretrain_config_.string() +
                 " --quiet : -n 1 mlaforge pretrain " + pretrain_config_.string() +
                 " --quiet --set train.batch_rows=7 --set from=nowhere");
  EXPECT_EQ(result.exit_code, 3) << result.err;
  EXPECT_THAT(result.err, HasSubstr("mlaforge pretrain: process 1: "));
}

}  // namespace
}  // namespace mla
