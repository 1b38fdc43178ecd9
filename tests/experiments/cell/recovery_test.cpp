// What is left of a cell that failed, whatever the reason, and what a later run makes of it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "core/base/fields.h"
#include "core/model/checkpoint.h"
#include "core/store/record.h"
#include "experiments/cell/claim.h"
#include "tests/support/results.h"
#include "tests/support/run_program.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_model_folder.h"

namespace mla {
namespace {

using std::filesystem::path;
using test::run_program;
using test::run_script;
using testing::HasSubstr;
using testing::Not;

class Recovery : public testing::Test {
 protected:
  void SetUp() override {
    test::write_tiny_inputs(folder_);
    config_ =
        folder_.write_config("tiny.json", test::tiny_experiment({{"train", {{"steps", 6}}},
                                                                 {"grid", {{"compress[0].low_rank.d_kv", {2, 3}}}},
                                                                 {"checkpoint_seconds", 1000}})
                                              .dump());
  }

  path results() const { return folder_ / "results"; }
  path models() const { return folder_ / "models"; }
  path record(const std::string& cell = "d_kv=2") const { return results() / "tiny" / (cell + ".h5"); }
  std::string command(const std::string& options = "") const {
    return "mlaforge run " + config_.string() + " " + options;
  }
  std::string saving(const std::string& options = "") const {
    return command("--set save_model=" + models().string() + " " + options);
  }
  Json cell_status(const std::string& cell) const {
    const Json status = run_program({"status", results().string(), "--json"}).json();
    for (const Json& entry : status["experiments"][0]["cells"]) {
      if (entry["cell"] == cell) return entry;
    }
    return {};
  }
  std::string hash_of(const std::string& cell) const {
    const Json plan = parse_json(read_file(results() / "tiny/plan.json"), "plan.json");
    for (const Json& entry : plan.at("cells")) {
      if (entry["cell"] == cell) return entry["content_hash"];
    }
    return "";
  }
  std::map<std::string, RunRecord> undisturbed() const {
    const path elsewhere = folder_ / "undisturbed";
    EXPECT_EQ(run_script(command("--quiet --set results=" + elsewhere.string())).exit_code, 0);
    auto records = test::records_in(elsewhere / "tiny");
    for (auto& [name, one] : records) one.config["results"] = results().string();
    return records;
  }

  test::TemporaryFolder folder_;
  path config_;
};

// The model cannot be written, after all training is done.
TEST_F(Recovery, AFailedCellKeepsItsTrainingAndARetryGoesOnFromThere) {
  folder_.write("models/d_kv=2", "a file where the model's folder should be");
  const auto failed = run_script(saving("--json --quiet"));
  EXPECT_EQ(failed.exit_code, 1) << failed.err;
  EXPECT_EQ(failed.json()["failed"], 1);
  EXPECT_EQ(cell_status("d_kv=2")["state"], "failed");
  EXPECT_EQ(cell_status("d_kv=2")["kept_steps"], 6);
  EXPECT_GT(cell_status("d_kv=2")["kept_bytes"], 0);
  EXPECT_EQ(cell_status("d_kv=3")["kept_bytes"], 0);
  EXPECT_THAT(run_program({"status", results().string()}).out, HasSubstr("kept to go on from: 6 steps, "));
  // A look at it takes nothing away.
  EXPECT_EQ(run_script(saving("--quiet")).exit_code, 1);
  EXPECT_EQ(cell_status("d_kv=2")["kept_steps"], 6);

  std::filesystem::remove(models() / "d_kv=2");
  const auto retried = run_script(saving("--retry-failed"));
  EXPECT_EQ(retried.exit_code, 0) << retried.err;
  EXPECT_THAT(retried.err, HasSubstr("fine-tune: goes on after 6 of 6 steps"));
  EXPECT_TRUE(std::filesystem::exists(models() / "d_kv=2/config.json"));
  EXPECT_THAT(test::litter(results()), testing::IsEmpty());
  auto records = test::records_in(results() / "tiny");
  for (auto& [name, one] : records) one.config.erase("save_model");
  EXPECT_EQ(records, undisturbed());
}

TEST_F(Recovery, WithForceAFailedCellBeginsAnew) {
  folder_.write("models/d_kv=2", "a file where the model's folder should be");
  ASSERT_EQ(run_script(saving("--quiet --only d_kv=2")).exit_code, 1);
  std::filesystem::remove(models() / "d_kv=2");
  const auto forced = run_script(saving("--only d_kv=2 --force"));
  EXPECT_EQ(forced.exit_code, 0) << forced.err;
  EXPECT_THAT(forced.err, Not(HasSubstr("goes on after")));
}

// A full disk, played by a limit on the size of files: the state of the first run stays when the second cannot write.
TEST_F(Recovery, AFullDiskAtACheckpointLeavesTheOneBefore) {
  test::write_tiny_model(folder_ / "model", 4000);  // states are then larger than everything else
  const std::string endless = command("--quiet --only d_kv=2 --set train.steps=100000");
  const auto stopped =
      run_script(endless + " & for i in $(seq 600); do grep -qs fine-tune " + (results() / ".cells").string() +
                 "/*/activity && break; sleep 0.05; done; kill -INT $!; wait $!");
  ASSERT_EQ(stopped.exit_code, 130) << stopped.err;
  const Json before = cell_status("d_kv=2");
  ASSERT_GT(before["kept_steps"], 0);
  const auto full = run_script("ulimit -f 600\n" + endless + " --set checkpoint_seconds=0.001");
  EXPECT_EQ(full.exit_code, 1) << full.err;
  EXPECT_THAT(full.err, HasSubstr("training.safetensors: cannot be written: File too large"));
  const Json after = cell_status("d_kv=2");
  EXPECT_EQ(after["state"], "failed");
  EXPECT_EQ(after["kept_steps"], before["kept_steps"]);
  const auto retried = run_script(
      command("--only d_kv=2 --retry-failed --set train.steps=100000 & for i in $(seq 600); do grep -qs "
              "fine-tune " +
              (results() / ".cells").string() + "/*/activity && break; sleep 0.05; done; kill -INT $!; wait $!"));
  EXPECT_THAT(retried.err, HasSubstr(cat("fine-tune: goes on after ", before["kept_steps"].get<int>(), " of 100000")));
}

TEST_F(Recovery, AStateThatCannotBeReadIsKeptAside) {
  ASSERT_EQ(run_script(command("--quiet --max-cells 1")).exit_code, 0);
  const std::string hash = hash_of("d_kv=3");
  folder_.write("results/.cells/" + hash + "/training.safetensors", "half a state");
  const auto result = run_script(command("--set save_model=/dev/null"));
  EXPECT_EQ(result.exit_code, 1) << result.err;
  EXPECT_THAT(result.err, HasSubstr("kept aside: "));
  EXPECT_EQ(read_file(results() / ".cells" / hash / "training.safetensors.damaged"), "half a state");
  EXPECT_EQ(run_script(command("--retry-failed")).exit_code, 0);
  EXPECT_THAT(test::litter(results()), testing::IsEmpty());
}

TEST_F(Recovery, DamagedRecordsAreShownAndMadeAgain) {
  const std::string grid = "--quiet --grid compress[0].low_rank.d_kv=1,2,3,4,5,6 ";
  ASSERT_EQ(run_script(command(grid)).exit_code, 0);
  const auto whole = test::records_in(results() / "tiny");
  std::filesystem::resize_file(record("d_kv=1"), 0);
  std::filesystem::resize_file(record("d_kv=2"), 20000);
  folder_.write("results/tiny/d_kv=3.h5", "no record\n");
  const auto linked = [&](const std::string& cell, const path& target) {
    std::filesystem::remove(record(cell));
    std::filesystem::create_symlink(target, record(cell));
  };
  linked("d_kv=4", record("d_kv=4"));  // leads to itself
  linked("d_kv=5", folder_ / "nowhere");
  std::filesystem::remove(record("d_kv=6"));
  std::filesystem::create_directories(record("d_kv=6"));
  const auto status = run_program({"status", results().string(), "--json"});
  ASSERT_EQ(status.exit_code, 0) << status.err;
  EXPECT_EQ(status.json()["experiments"][0]["counts"]["damaged"], 6) << status.out;
  EXPECT_THAT(run_program({"status", results().string()}).out, HasSubstr("d_kv=1  damaged"));
  // Nothing can be put in the place of the folder: that cell is not run, the others are.
  const auto again = run_script(command(grid + "--jobs 2 --json"));
  EXPECT_EQ(again.exit_code, 1) << again.err;
  EXPECT_THAT(again.err, HasSubstr("d_kv=6.h5: the record cannot be written: a folder is there"));
  EXPECT_EQ(again.json()["failed"], 1);
  std::filesystem::remove(record("d_kv=6"));
  ASSERT_EQ(run_script(command(grid)).exit_code, 0);
  EXPECT_EQ(test::records_in(results() / "tiny"), whole);
}

TEST_F(Recovery, ADamagedPlanHidesNoOtherExperiment) {
  ASSERT_EQ(run_script(command("--quiet --max-cells 1")).exit_code, 0);
  folder_.write("results/other/plan.json", "{");
  const auto status = run_program({"status", results().string()});
  EXPECT_EQ(status.exit_code, 0) << status.err;
  EXPECT_THAT(status.out, HasSubstr("other: its plan cannot be read: "));
  EXPECT_THAT(status.out, HasSubstr("tiny: 1 complete, 1 pending"));
  EXPECT_EQ(run_program({"status", (results() / "other").string()}).exit_code, 3);
}

TEST_F(Recovery, WhatNobodyPlansAnyMoreIsTold) {
  folder_.write("models/d_kv=2", "a file where the model's folder should be");
  ASSERT_EQ(run_script(saving("--quiet")).exit_code, 1);
  const path kept = results() / ".cells" / hash_of("d_kv=2");
  ASSERT_EQ(run_script(command("--quiet --set train.steps=7 --max-cells 1")).exit_code, 0);
  const auto status = run_program({"status", (results() / "tiny").string()});
  EXPECT_THAT(status.out,
              HasSubstr("of a cell that is planned no more, in " + kept.string() + ": kept to go on from: 6"));
}

TEST_F(Recovery, AFinishedCellIsSavedLateOrToldHow) {
  ASSERT_EQ(run_script(command("--quiet")).exit_code, 0);
  const auto trained = run_script(saving());
  EXPECT_EQ(trained.exit_code, 1);
  EXPECT_THAT(trained.err,
              HasSubstr("d_kv=2: complete already, but its model is not in " + (models() / "d_kv=2").string()));
  EXPECT_THAT(trained.err, HasSubstr("--force --only d_kv=2\n"));
  EXPECT_EQ(run_script(saving("--quiet --force --only d_kv=2")).exit_code, 0);
  EXPECT_TRUE(std::filesystem::exists(models() / "d_kv=2/model.safetensors"));
  EXPECT_EQ(run_script(saving("--quiet --only d_kv=2")).exit_code, 0);

  const std::string untrained = "--quiet --set train=null --only d_kv=3 ";
  ASSERT_EQ(run_script(command(untrained)).exit_code, 0);
  ASSERT_EQ(run_script(saving(untrained)).exit_code, 0);
  const auto late = load_spec(models() / "d_kv=3").layers;
  EXPECT_EQ(read_file(models() / "d_kv=3/cell_hash"), hash_of("d_kv=3") + "\n");
  std::filesystem::remove_all(models());
  ASSERT_EQ(run_script(saving(untrained + "--force")).exit_code, 0);
  EXPECT_EQ(load_spec(models() / "d_kv=3").layers, late);
  folder_.write("models/d_kv=3/cell_hash", "another cell's\n");
  const auto written = std::filesystem::last_write_time(models() / "d_kv=3/model.safetensors");
  ASSERT_EQ(run_script(saving(untrained)).exit_code, 0);
  EXPECT_GT(std::filesystem::last_write_time(models() / "d_kv=3/model.safetensors"), written);
}

TEST_F(Recovery, ANameIsNoPatternForLongerOnes) {
  const std::string grid = "--quiet --json --grid compress[0].low_rank.d_kv=1,10 --only d_kv=1 --dry-run";
  EXPECT_EQ(run_script(command(grid)).exit_code, 0);
  const auto run = run_script(command("--quiet --json --grid compress[0].low_rank.d_kv=1,10 --only d_kv=1"));
  EXPECT_EQ(run.json()["cells"].size(), 1u) << run.err;
}

TEST_F(Recovery, WorkersTellOfTheCellsThatFailedUnderThem) {
  folder_.write("models/d_kv=2", "a file where the model's folder should be");
  const auto worker = run_script(saving("--worker --quiet --only d_kv=2"));
  EXPECT_EQ(worker.exit_code, 1) << worker.err;
  EXPECT_EQ(run_script(saving("--worker --quiet --only d_kv=2")).exit_code, 1);  // it was there before
  EXPECT_EQ(run_script(saving("--worker --quiet --only d_kv=3")).exit_code, 0);
  EXPECT_EQ(run_script(saving("--worker --quiet --started=-9000000000000000000")).exit_code,
            0);  // another's, as it seems
  EXPECT_EQ(run_script(saving("--jobs 2 --quiet")).exit_code, 1);
}

// A process that was thought dead stops working on the cell when it next looks, and leaves its successor's files alone.
TEST_F(Recovery, ALostCellIsGivenUpSoon) {
  const std::string cells = (results() / ".cells").string();
  const std::string endless = command("--only d_kv=2 --set train.steps=1000000 --set checkpoint_seconds=0 >/dev/null");
  const path successor = folder_.write("successor", write_fields(this_process()).dump());
  const auto result =
      run_script(endless + " &\nfor i in $(seq 600); do state=$(ls " + cells +
                 "/*/training.safetensors 2>/dev/null) && break; sleep 0.05; done\n" + "cp " + successor.string() +
                 " $(dirname $state)/claim.2\nsleep 0.5\nrm $state\nsleep 1\nls $state\nkill -INT $!; wait $!");
  EXPECT_THAT(result.err, HasSubstr("d_kv=2: another process took this cell over"));
  EXPECT_EQ(result.out, "") << "it wrote its state after it had lost the cell";
  EXPECT_THAT(result.err, HasSubstr("another process is working on it"));
}

TEST_F(Recovery, SlurmScriptsAreQuoted) {
  const path folder = folder_ / "a folder, 100% \"mine\"";
  std::filesystem::create_directories(folder);
  std::filesystem::copy_file(config_, folder / "my sweep.json");
  const auto result =
      run_script("cd '" + folder.string() + "' && mlaforge slurm 'my sweep.json' --dry-run --set results=\"$PWD\"");
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const std::string script = (folder / "my sweep/slurm.sh").string();
  EXPECT_THAT(result.out, HasSubstr("submit it with: sbatch '" + script + "'\n"));
  const std::string text = read_file(script);
  EXPECT_THAT(text, HasSubstr("#SBATCH --job-name=\"my sweep\"\n"));
  EXPECT_THAT(text, HasSubstr("#SBATCH --output=\"" + folder_.path().string() +
                              "/a folder, 100%% \\\"mine\\\"/my sweep/logs/slurm_%A_%a.log\"\n"));
  EXPECT_EQ(run_script("bash '" + script + "'").exit_code, 0);
  const auto refused =
      run_script("mlaforge slurm '" + (folder / "my sweep.json").string() + "' --dry-run --set 'name=\"two\\nlines\"'");
  EXPECT_EQ(refused.exit_code, 2) << refused.out;
  EXPECT_THAT(refused.err, HasSubstr("--job-name: sbatch takes no line breaks"));
}

TEST_F(Recovery, ASlurmTaskWhoseCellFailsDoesSoToo) {
  folder_.write("models/d_kv=2", "a file where the model's folder should be");
  const auto written = run_script("mlaforge slurm " + config_.string() +
                                  " --cpus 1 --dry-run --json --set save_model=" + models().string());
  ASSERT_EQ(written.exit_code, 0) << written.err;
  EXPECT_EQ(run_script("bash " + written.json()["script"].get<std::string>()).exit_code, 1);
  EXPECT_EQ(run_script("bash " + written.json()["script"].get<std::string>()).exit_code, 0);  // nothing left to do
}

}  // namespace
}  // namespace mla
