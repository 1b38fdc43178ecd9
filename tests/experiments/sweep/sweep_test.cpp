// Sweeps as a whole: what is skipped, shared, resumed, and run by several processes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>

#include "core/base/random.h"
#include "core/store/record.h"
#include "experiments/cell/cell_folder.h"
#include "experiments/cell/claim.h"
#include "tests/support/results.h"
#include "tests/support/run_program.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_model_folder.h"

namespace mla {
namespace {

using std::filesystem::path;
using test::litter;
using test::records_in;
using test::run_program;
using test::run_script;
using test::times;
using testing::HasSubstr;
using testing::UnorderedElementsAre;

class Sweep : public testing::Test {
 protected:
  void SetUp() override {
    test::write_tiny_inputs(folder_);
    config_ = folder_.write_config(
        "tiny.json",
        test::tiny_experiment({{"train", {{"steps", 4}}},
                               {"grid", {{"compress[0].low_rank.d_kv", {2, 3, 4}}, {"train.seed", {1, 2}}}},
                               {"baseline", true},
                               {"checkpoint_seconds", 0}})
            .dump());
  }
  test::ProgramResult run(std::vector<std::string> more = {}) const {
    more.insert(more.begin(), {"run", config_.string(), "--json", "--quiet"});
    return run_program(more);
  }
  path results() const { return folder_ / "results"; }
  std::string command(const std::string& options = "") const {
    return "mlaforge run " + config_.string() + " --quiet " + options;
  }
  /// Sends the last background job of a script a signal when a cell has shown that it trains, and waits for its end.
  std::string once_training(const std::string& signal) const {
    return "for i in $(seq 1200); do grep -qs fine-tune " + (results() / ".cells").string() +
           "/*/activity && break; sleep 0.05; done; kill -" + signal + " $!; wait $!";
  }
  static std::vector<std::string> cells(const test::ProgramResult& result) {
    std::vector<std::string> names;
    const Json report = result.json();
    for (const Json& cell : report["cells"]) names.push_back(cell["cell"]);
    return names;
  }

  test::TemporaryFolder folder_;
  path config_;
};

TEST_F(Sweep, EachSettingOutsideCompressionHasItsBaseline) {
  EXPECT_THAT(cells(run({"--dry-run"})),
              testing::ElementsAre("baseline,seed=1", "baseline,seed=2", "d_kv=2,seed=1", "d_kv=2,seed=2",
                                   "d_kv=3,seed=1", "d_kv=3,seed=2", "d_kv=4,seed=1", "d_kv=4,seed=2"));
  EXPECT_FALSE(std::filesystem::exists(results()));
}

TEST_F(Sweep, ThePlanCountsWhatCellsShare) {
  const auto config = folder_.write_config("mixed.json", R"({"model": {"path": "@/model"}, "results": "@/results",
    "compress": [{"name": "mha2mla", "rope": {"name": "high", "pairs": 1}}],
    "grid": {"compress[0].low_rank": [{"name": "none"}, {"name": "joint_svd", "d_kv": 2}, {"name": "joint_svd", "d_kv": 3},
                                      {"name": "split_svd", "d_kv": 2}]}})");
  const Json shared = run_program({"run", config.string(), "--dry-run", "--json"}).json()["shared"];
  EXPECT_EQ(shared["source_models"], 1);
  EXPECT_EQ(shared["calibrated_cells"], 0);
  EXPECT_EQ(shared["decompositions"], 2);  // joint and split; `none` decomposes nothing
  EXPECT_EQ(shared["decomposed_cells"], 3);
}

TEST_F(Sweep, OnlyAndLimitLeaveTheRest) {
  const auto limited = run({"--max-cells", "1"});
  EXPECT_EQ(limited.json()["cells"].size(), 1u);
  EXPECT_EQ(limited.json()["left"], 7);
  EXPECT_EQ(run({"--max-cells", "1"}).json()["left"], 6);  // finished cells are not counted
  EXPECT_THAT(cells(run({"--only", "d_kv=[23]*"})),
              UnorderedElementsAre("d_kv=2,seed=1", "d_kv=2,seed=2", "d_kv=3,seed=1", "d_kv=3,seed=2"));
  const auto none = run({"--only", "nothing"});
  EXPECT_EQ(none.exit_code, 2);
  EXPECT_THAT(none.err, HasSubstr("--only nothing: no cell has such a name"));
}

TEST_F(Sweep, AnotherNameOfTheSameConfigIsNotRunAgain) {
  ASSERT_EQ(run().exit_code, 0);
  const auto before = records_in(results() / "tiny");
  const path renamed = folder_ / "renamed.json";
  std::filesystem::copy_file(config_, renamed);
  const auto result = run_script("mlaforge run " + renamed.string());  // a program of its own, whose log can be read
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.err, HasSubstr(": complete already"));
  EXPECT_THAT(result.err, testing::Not(HasSubstr(": started")));
  auto after = records_in(results() / "renamed");
  ASSERT_EQ(after.size(), before.size());
  for (auto& [name, record] : after) {
    EXPECT_EQ(record.head.experiment, "renamed");
    record.head.experiment = "tiny";
    EXPECT_EQ(record, before.at(name)) << name;
  }
}

TEST_F(Sweep, WhatCellsShareIsMadeOnceInAResultsFolder) {
  const std::string two_norm = "--set compress[0].rope.name=two_norm --set 'calibration={\"files\": [\"" +
                               (folder_ / "text.txt").string() + "\"], \"documents\": {\"separator\": \"###\"}}' ";
  const std::string shell = "mlaforge run " + config_.string() + " " + two_norm;
  const auto first = run_script(shell + "--only d_kv=2,seed=1");
  ASSERT_EQ(first.exit_code, 0) << first.err;
  EXPECT_EQ(times(first.err, "calibrate: "), 1u);
  EXPECT_EQ(times(first.err, "evaluate source: "), 1u);
  const auto second = run_script(shell + "--only d_kv=3,seed=1");
  EXPECT_EQ(times(second.err, "calibrate: ") + times(second.err, "evaluate source: "), 0u);
  const auto scores = [&](const std::string& cell) {
    const RunRecord record = read_record(results() / ("tiny/" + cell + ".h5"));
    return std::vector<ScoreRecord>(record.evaluation.begin(), record.evaluation.begin() + 2);
  };
  EXPECT_EQ(scores("d_kv=2,seed=1"), scores("d_kv=3,seed=1"));
  EXPECT_EQ(times(run_script(shell + "--only d_kv=3,seed=1 --force").err, "calibrate: "), 1u);
  run_script("for f in " + (results() / ".cells").string() + "/*/statistics.safetensors; do truncate -s 20 $f; done");
  const auto damaged = run_script(shell + "--only d_kv=4,seed=1");
  EXPECT_EQ(damaged.exit_code, 0) << damaged.err;
  EXPECT_THAT(damaged.err, HasSubstr("made again: "));
  EXPECT_EQ(times(damaged.err, "calibrate: "), 1u);
}

TEST_F(Sweep, AChangedInputIsRunAgain) {
  ASSERT_EQ(run({"--only", "d_kv=2,seed=1"}).exit_code, 0);
  const std::string hash = read_record_head(results() / "tiny/d_kv=2,seed=1.h5").content_hash;
  folder_.write("text.txt", std::string(400, 'a') + "###" + std::string(500, 'b'));
  ASSERT_EQ(run({"--only", "d_kv=2,seed=1"}).exit_code, 0);
  EXPECT_NE(read_record_head(results() / "tiny/d_kv=2,seed=1.h5").content_hash, hash);
}

TEST_F(Sweep, FailedCellsStayFailedUntilRetried) {
  const std::vector<std::string> grid = {"--grid", "compress[0].low_rank.d_kv=2",    "--grid", "train.seed=1",
                                         "--grid", "train.sequence_length=100000,16"};
  const auto with = [&](std::vector<std::string> more) {
    more.insert(more.end(), grid.begin(), grid.end());
    return run(more);
  };
  const auto first = with({"--fail-fast"});
  EXPECT_EQ(first.exit_code, 1);
  EXPECT_EQ(first.json()["failed"], 1);
  EXPECT_EQ(first.json()["left"], 3);
  const path record = first.json()["cells"][0]["record"].get<std::string>();
  const auto written = std::filesystem::last_write_time(record);
  const auto second = with({});
  EXPECT_EQ(second.exit_code, 1);
  EXPECT_EQ(second.json()["failed"], 2);
  EXPECT_EQ(second.json()["left"], 0);
  EXPECT_EQ(std::filesystem::last_write_time(record), written);
  EXPECT_EQ(with({"--retry-failed"}).exit_code, 1);
  EXPECT_GT(std::filesystem::last_write_time(record), written);
}

TEST_F(Sweep, SenselessCellsAreRefusedOrSkippedAndCounted) {
  const std::vector<std::string> grid = {"--grid", "compress[0].low_rank.d_kv=2,40", "--dry-run"};
  const auto refused = run(grid);
  EXPECT_EQ(refused.exit_code, 2);
  EXPECT_THAT(refused.err, HasSubstr("d_kv=40"));
  auto skipping = grid;
  skipping.insert(skipping.end(), {"--set", "skip_invalid=true"});
  const auto skipped = run(skipping);
  ASSERT_EQ(skipped.exit_code, 0) << skipped.err;
  EXPECT_EQ(skipped.json()["cells"].size(), 4u);
  EXPECT_EQ(skipped.json()["skipped_invalid"].size(), 2u);
}

TEST_F(Sweep, KilledAtAnyMomentItGoesOnToTheSameRecords) {
  const std::string more =
      "--set train.steps=60 --only 'seed=1' --grid train.partial_rope_steps=0,25 --grid compress[0].low_rank.d_kv=2,3";
  const auto begun = std::chrono::steady_clock::now();
  ASSERT_EQ(run_script(command(more)).exit_code, 0);
  const std::chrono::duration<double> undisturbed = std::chrono::steady_clock::now() - begun;
  const auto whole = records_in(results() / "tiny");
  std::filesystem::remove_all(results());
  RandomStream moments(7, "kill");
  int kills = 0;
  // However fast the machine is, the sweep takes several lives: each is shorter than a fourth of the whole.
  for (int i = 0; i < 20; ++i) {
    const double seconds = undisturbed.count() * (0.03 + 0.0002 * static_cast<double>(moments.below(1000)));
    const auto killed = run_script("timeout -s KILL " + std::to_string(seconds) + " " + command(more));
    kills += killed.exit_code == 137;
  }
  EXPECT_GT(kills, 3);
  const auto last = run_script(command(more));
  ASSERT_EQ(last.exit_code, 0) << last.err;
  EXPECT_EQ(records_in(results() / "tiny"), whole);
  EXPECT_THAT(litter(results()), testing::IsEmpty());
}

TEST_F(Sweep, AnInterruptSavesAndTellsHowToGoOn) {
  const std::string endless = "mlaforge run " + config_.string() +
                              " --set train.steps=1000000 --only d_kv=2,seed=1 --set checkpoint_seconds=1000";
  const auto stopped = run_script(endless + " & " + once_training("INT") + "; mlaforge status " + results().string());
  EXPECT_THAT(stopped.err, HasSubstr("goes on where it was; to go on: "));
  EXPECT_THAT(stopped.err, HasSubstr("--set train.steps=1000000"));
  EXPECT_THAT(stopped.out, HasSubstr("interrupted"));
  run_script("rm " + (results() / ".cells").string() + "/*/activity");
  const auto seen = run_script(endless + " & " + once_training("INT"));
  EXPECT_THAT(seen.err, HasSubstr("fine-tune: goes on after "));
}

TEST_F(Sweep, SeveralProcessesShareTheWork) {
  ASSERT_EQ(run_script(command("--set train.steps=30")).exit_code, 0);
  const auto whole = records_in(results() / "tiny");
  for (const char* together : {"2", "4"}) {
    std::filesystem::remove_all(results());
    const auto result =
        run_script("for i in $(seq " + std::string(together) + "); do mlaforge run " + config_.string() +
                   " --set train.steps=30 & pids+=($!); done; for p in ${pids[@]}; do wait $p || exit 1; done");
    ASSERT_EQ(result.exit_code, 0) << result.err;
    EXPECT_EQ(records_in(results() / "tiny"), whole);
    EXPECT_THAT(litter(results()), testing::IsEmpty());
    EXPECT_EQ(times(result.err, ": started"), whole.size()) << "a cell was computed twice";
  }
}

TEST_F(Sweep, ProcessesPreferDecompositionsThatNoOtherIsAtWorkOn) {
  const std::vector<std::string> two_cells{"--set",  "baseline=false", "--grid",      "compress[0].rope.name=high,low",
                                           "--grid", "train.seed=1",   "--max-cells", "2"};
  run(two_cells);  // one of each selection
  const Json cells = parse_json(read_file(results() / "tiny/plan.json"), "plan.json").at("cells");
  std::unique_ptr<Claim> held;  // by another process, as it seems
  for (const Json& cell : cells) {
    const CellFolder folder(results(), cell.at("content_hash"));
    const bool open = times(cell.at("cell"), "name=high") == 1 && !folder.record();
    if (open && !held) held = Claim::attempt(folder.path());
  }
  ASSERT_TRUE(held);
  run(two_cells);
  const auto finished = [&](const std::string& selection) {
    std::size_t count = 0;
    for (const auto& [name, record] : records_in(results() / "tiny")) count += times(name, "name=" + selection);
    return count;
  };
  EXPECT_EQ(finished("low"), 3u);
  EXPECT_EQ(finished("high"), 1u);
}

// Workers have fewer threads each than the program alone: the number of threads changes no byte of what is found.
TEST_F(Sweep, JobsAreWorkersOfOneCommand) {
  ASSERT_EQ(run_script("export OMP_NUM_THREADS=2\n" + command()).exit_code, 0);
  const auto whole = records_in(results() / "tiny");
  std::filesystem::remove_all(results());
  const auto result = run_script(command("--jobs 2 --json"));
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.json()["cells"].size(), whole.size());
  EXPECT_EQ(records_in(results() / "tiny"), whole);
  const auto again = run_script(command("--jobs 2 --json --force"));
  ASSERT_EQ(again.exit_code, 0) << again.err;
  EXPECT_EQ(records_in(results() / "tiny"), whole);
}

TEST_F(Sweep, StatusShowsWhatIsThere) {
  EXPECT_EQ(run_program({"status", results().string()}).exit_code, 3);
  ASSERT_EQ(run({"--max-cells", "2"}).exit_code, 0);
  const auto status = run_program({"status", results().string(), "--json"});
  ASSERT_EQ(status.exit_code, 0) << status.err;
  const Json counts = status.json()["experiments"][0]["counts"];
  EXPECT_EQ(counts["complete"], 2);
  EXPECT_EQ(counts["pending"], 6);
  EXPECT_EQ(run_program({"status", (results() / "tiny").string(), "--json"}).json(), status.json());
}

TEST_F(Sweep, DamagedRecordsAndStatesAreMadeAgain) {
  ASSERT_EQ(run({"--only", "d_kv=2,seed=1"}).exit_code, 0);
  const path record = results() / "tiny/d_kv=2,seed=1.h5";
  std::filesystem::resize_file(record, 100);
  const auto again = run_script(command("--only d_kv=2,seed=1"));
  EXPECT_EQ(again.exit_code, 0) << again.err;
  EXPECT_THAT(again.err, HasSubstr("made again: "));
  EXPECT_EQ(read_record_head(record).status, RunStatus::kComplete);
}

TEST_F(Sweep, SlurmScriptIsWrittenAndItsTasksDoTheWork) {
  const auto result = run_script("cd " + folder_.path().string() + " && mlaforge slurm " + config_.string() +
                                 " --tasks 2 --cpus 1 --json --dry-run");
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.json()["tasks"], 2);
  const std::string script = result.json()["script"];
  EXPECT_THAT(read_file(script), HasSubstr("#SBATCH --array=0-1\n"));
  EXPECT_THAT(read_file(script), HasSubstr("#SBATCH --requeue\n"));
  const auto task = run_script("bash " + script);  // a task without Slurm around it
  ASSERT_EQ(task.exit_code, 0) << task.err;
  EXPECT_EQ(records_in(results() / "tiny").size(), 8u);
}

TEST_F(Sweep, SlurmTaskSavesAndRequeuesItself) {
  const auto result = run_script("mlaforge slurm " + config_.string() +
                                 " --set train.steps=1000000 --only d_kv=2,seed=1 --cpus 1 --json --dry-run");
  ASSERT_EQ(result.exit_code, 0) << result.err;
  folder_.write("bin/scontrol", "#!/bin/bash\necho \"$@\" > " + (folder_ / "requeued").string() + "\n");
  const auto task =
      run_script("chmod +x " + (folder_ / "bin/scontrol").string() + "; export PATH=" + (folder_ / "bin").string() +
                 ":$PATH SLURM_ARRAY_JOB_ID=7 SLURM_ARRAY_TASK_ID=0; bash " +
                 result.json()["script"].get<std::string>() + " & " + once_training("TERM"));
  EXPECT_EQ(read_file(folder_ / "requeued"), "requeue 7_0\n") << task.err;
  EXPECT_THAT(run_program({"status", results().string()}).out, HasSubstr("interrupted"));
}

}  // namespace
}  // namespace mla
