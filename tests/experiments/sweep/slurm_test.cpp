// A sweep as a job array of a real one-machine Slurm.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <unistd.h>

#include <optional>

#include "core/store/record.h"
#include "tests/support/run_program.h"
#include "tests/support/shared_data.h"
#include "tests/support/tiny_model_folder.h"

namespace mla {
namespace {

using test::run_script;

/// Held by one process of the machine at a time: the daemons listen on ports that are always the same, and shares of
/// the tests run side by side.
class Turn {
 public:
  Turn() : file_(::open(name().c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0666)) { ::flock(file_, LOCK_EX); }
  ~Turn() { ::close(file_); }
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;

 private:
  static std::string name() { return (std::filesystem::temp_directory_path() / "mla_test_slurm.lock").string(); }
  int file_;
};

/// Slurm's daemons, for as long as this lives.
class LocalSlurm {
 public:
  explicit LocalSlurm(const std::filesystem::path& folder)
      : tool_(test::shared_folder() / "tools/slurm_local"), folder_(folder) {
    started_ = run_script(tool_.string() + " start " + folder_.string());
  }
  ~LocalSlurm() { run_script(tool_.string() + " stop " + folder_.string()); }
  LocalSlurm(const LocalSlurm&) = delete;
  LocalSlurm& operator=(const LocalSlurm&) = delete;

  const test::ProgramResult& started() const { return started_; }
  std::string environment() const { return "export SLURM_CONF=" + (folder_ / "slurm.conf").string() + "\n"; }

 private:
  Turn turn_;
  std::filesystem::path tool_, folder_;
  test::ProgramResult started_;
};

class Slurm : public testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "Slurm's daemons are started as root only";
    if (!std::filesystem::exists(test::shared_folder() / "tools/slurm_local"))
      GTEST_SKIP() << "no tools/slurm_local in MLA_SHARED";
    if (run_script("command -v sbatch slurmctld munged").exit_code != 0)
      GTEST_SKIP() << "Slurm (slurm-wlm, munge) is not installed";
    slurm_.emplace(folder_ / "slurm");
    if (slurm_->started().exit_code != 0) GTEST_SKIP() << "Slurm does not start here: " << slurm_->started().err;
    const auto job = run("timeout 60 srun -n 1 true");
    if (job.exit_code != 0) GTEST_SKIP() << "Slurm starts here but runs no job: " << job.err;
    test::write_tiny_inputs(folder_);
  }

  test::ProgramResult run(const std::string& script) const { return run_script(slurm_->environment() + script); }

  /// Submits the experiment and returns the job's number.
  std::string submit(const std::filesystem::path& config, const std::string& options) const {
    const auto submitted = run("mlaforge slurm " + config.string() + " --cpus 1 --json " + options);
    EXPECT_EQ(submitted.exit_code, 0) << submitted.err;
    return submitted.exit_code == 0 ? submitted.json()["job"].get<std::string>() : "";
  }

  /// What is still in the queue after all jobs had three minutes to end.
  std::string queue_at_the_end() const {
    return run("for i in $(seq 360); do [ -z \"$(squeue -h)\" ] && exit; sleep 0.5; done; squeue").out;
  }

  std::string log() const { return run_script("cat " + (folder_ / "results/tiny/logs").string() + "/*").out; }
  RunRecord record(const std::string& cell) const { return read_record(folder_ / ("results/tiny/" + cell + ".h5")); }

  test::TemporaryFolder folder_;
  std::optional<LocalSlurm> slurm_;
};

TEST_F(Slurm, AnArrayRunsEveryCellOnce) {
  const auto config = folder_.write_config("tiny.json", R"({"model": {"path": "@/model"}, "results": "@/results",
    "compress": [{"name": "mha2mla", "rope": {"name": "high", "pairs": 1}, "low_rank": {"name": "joint_svd", "d_kv": 2}}],
    "grid": {"compress[0].low_rank.d_kv": [2, 3, 4]}})");
  submit(config, "--tasks 2");
  ASSERT_EQ(queue_at_the_end(), "");
  for (const char* cell : {"d_kv=2", "d_kv=3", "d_kv=4"}) {
    EXPECT_EQ(record(cell).head.status, RunStatus::kComplete);
    EXPECT_THAT(log(), testing::HasSubstr(std::string(cell) + ": complete"));
  }
}

// Preempted while it trains, a task saves, goes back into the queue and ends with the weights of an undisturbed run.
TEST_F(Slurm, APreemptedTaskIsRequeuedAndGoesOn) {
  const auto config = folder_.write_config("tiny.json", R"({"model": {"path": "@/model"}, "results": "@/results",
    "compress": [{"name": "mha2mla", "rope": {"name": "high", "pairs": 1}, "low_rank": {"name": "joint_svd", "d_kv": 2}}],
    "train": {"steps": 3000, "batch_rows": 2, "sequence_length": 16, "learning_rate": 0.003,
              "data": {"files": ["@/text.txt"], "documents": {"separator": "###"}}}})");
  const std::string task = submit(config, "--tasks 1") + "_0";
  // A requeued job may start after two minutes only, unless it is told otherwise; Slurm may set that again after it was
  // told, and for a moment the job is in no queue. It is told until it runs.
  const auto requeued = run("for i in $(seq 1200); do grep -qs fine-tune " + (folder_ / "results/.cells").string() +
                            "/*/activity && break; sleep 0.05; done; scancel --batch --signal=TERM " + task +
                            "; for i in $(seq 600); do job=$(scontrol show job " + task +
                            "); case $job in *JobState=RUNNING*Restarts=1*|*JobState=COMPLETED*Restarts=1*) exit;;"
                            " *Restarts=1*) scontrol update JobId=" +
                            task + " StartTime=now;; esac; sleep 0.1; done; exit 1");
  ASSERT_EQ(requeued.exit_code, 0) << requeued.err << log();
  ASSERT_EQ(queue_at_the_end(), "");
  EXPECT_THAT(log(), testing::HasSubstr("stopped with its state saved; back into the queue"));
  const RunRecord resumed = record("default");
  EXPECT_EQ(resumed.head.status, RunStatus::kComplete);
  ASSERT_EQ(run_script("mlaforge run --quiet --threads 1 --force " + config.string()).exit_code, 0);
  EXPECT_EQ(resumed.training.loss, record("default").training.loss);
}

TEST_F(Slurm, ATaskWhoseCellFailedHasFailedAndNamesMayHoldSpaces) {
  const auto config =
      folder_.write_config("my sweep.json", R"({"model": {"path": "@/model"}, "results": "@/my results, 100%",
    "save_model": "@/models",
    "compress": [{"name": "mha2mla", "rope": {"name": "high", "pairs": 1}, "low_rank": {"name": "joint_svd", "d_kv": 2}}],
    "grid": {"compress[0].low_rank.d_kv": [2, 3]}})");
  folder_.write("models/d_kv=2", "a file where the model's folder should be");
  const auto submitted = run("mlaforge slurm '" + config.string() + "' --cpus 1 --json --tasks 1");
  ASSERT_EQ(submitted.exit_code, 0) << submitted.err;
  ASSERT_EQ(queue_at_the_end(), "");
  const auto job = run("scontrol show job " + submitted.json()["job"].get<std::string>());
  EXPECT_THAT(job.out, testing::HasSubstr("JobName=my sweep\n"));
  EXPECT_THAT(job.out, testing::HasSubstr("JobState=FAILED"));
  EXPECT_THAT(job.out, testing::HasSubstr("ExitCode=1:0"));
  const auto folder = folder_ / "my results, 100%/my sweep";
  EXPECT_EQ(read_record(folder / "d_kv=2.h5").head.status, RunStatus::kFailed);
  EXPECT_EQ(read_record(folder / "d_kv=3.h5").head.status, RunStatus::kComplete);
  EXPECT_FALSE(std::filesystem::is_empty(folder / "logs"));
}

TEST_F(Slurm, SrunStartsOneProgramOfManyRanks) {
  const auto config = folder_.write_config("tiny.json", R"({"model": {"path": "@/model"}, "results": "@/results",
    "compress": [{"name": "mha2mla", "rope": {"name": "high", "pairs": 1}, "low_rank": {"name": "joint_svd", "d_kv": 2}}],
    "train": {"steps": 5, "batch_rows": 2, "sequence_length": 16,
              "data": {"files": ["@/text.txt"], "documents": {"separator": "###"}}}})");
  const std::string command = " mlaforge run " + config.string() + " --json --quiet --threads 1";
  const auto apart = run("timeout 60 srun --overcommit -n 2 --mpi=none" + command);
  EXPECT_EQ(apart.exit_code, 2) << apart.err;
  EXPECT_THAT(apart.err, testing::HasSubstr("2 processes"));
  EXPECT_FALSE(std::filesystem::exists(folder_ / "results"));
  if (run("srun --mpi=list 2>&1").out.find("pmix") == std::string::npos) GTEST_SKIP() << "this Slurm is without PMIx";
  if (apart.err.find("built without MPI") != std::string::npos) GTEST_SKIP() << "this build is without MPI";
  const auto together = run("timeout 60 srun --overcommit -n 2 --mpi=pmix" + command);
  ASSERT_EQ(together.exit_code, 0) << together.err;
  EXPECT_EQ(together.json()["cells"].size(), 1u);  // one of the processes speaks
  EXPECT_EQ(record("default").head.status, RunStatus::kComplete);
  EXPECT_EQ(run("timeout 60 srun -n 1 mlaforge list").exit_code, 0);
}

}  // namespace
}  // namespace mla
