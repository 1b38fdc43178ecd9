// A sweep as a job array of a real one-machine Slurm.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "core/store/record.h"
#include "tests/support/run_program.h"
#include "tests/support/shared_data.h"
#include "tests/support/tiny_model_folder.h"

namespace mla {
namespace {

using test::run_script;

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
  std::filesystem::path tool_, folder_;
  test::ProgramResult started_;
};

TEST(Slurm, AnArrayRunsEveryCellOnce) {
  if (::geteuid() != 0) GTEST_SKIP() << "Slurm's daemons are started as root only";
  if (!std::filesystem::exists(test::shared_folder() / "tools/slurm_local"))
    GTEST_SKIP() << "no tools/slurm_local in MLA_SHARED";
  if (run_script("command -v sbatch slurmctld munged").exit_code != 0)
    GTEST_SKIP() << "Slurm (slurm-wlm, munge) is not installed";
  const test::TemporaryFolder folder;
  const LocalSlurm slurm(folder / "slurm");
  if (slurm.started().exit_code != 0) GTEST_SKIP() << "Slurm does not start here: " << slurm.started().err;
  const auto job = run_script(slurm.environment() + "timeout 60 srun -n 1 true");
  if (job.exit_code != 0) GTEST_SKIP() << "Slurm starts here but runs no job: " << job.err;

  test::write_tiny_model(folder / "model");
  const auto config = folder.write("tiny.json", R"({"model": {"path": ")" + (folder / "model").string() + R"("},
    "results": ")" + (folder / "results").string() + R"(",
    "compress": [{"name": "mha2mla", "rope": {"name": "high", "pairs": 1}, "low_rank": {"name": "joint_svd", "d_kv": 2}}],
    "grid": {"compress[0].low_rank.d_kv": [2, 3, 4]}})");
  const auto submitted =
      run_script(slurm.environment() + "mlaforge slurm " + config.string() + " --tasks 2 --cpus 1 --json");
  ASSERT_EQ(submitted.exit_code, 0) << submitted.err;
  EXPECT_FALSE(submitted.json()["job"].is_null());
  const auto ended = run_script(slurm.environment() +
                                "for i in $(seq 360); do [ -z \"$(squeue -h)\" ] && exit; sleep 0.5; done; squeue");
  ASSERT_EQ(ended.out, "");
  for (const char* cell : {"d_kv=2", "d_kv=3", "d_kv=4"}) {
    EXPECT_EQ(read_record_head(folder / (std::string("results/tiny/") + cell + ".h5")).status, RunStatus::kComplete);
  }
  const auto log = run_script("cat " + (folder / "results/tiny/logs").string() + "/*");
  EXPECT_THAT(log.out, testing::HasSubstr("d_kv=2: complete"));
}

}  // namespace
}  // namespace mla
