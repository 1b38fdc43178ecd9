// What a batch script asks of Slurm.
#include "experiments/sweep/slurm_script.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/error.h"
#include "tests/support/errors.h"

namespace mla {
namespace {

using test::message_of;
using testing::HasSubstr;
using testing::Not;

std::string batch_script(const SlurmOptions& options) {
  return slurm_script("toy", "/bin/mlaforge", {"run", "e.json"}, "/home", "/home/logs", 3, options);
}

std::string script_with(const std::string& other) {
  SlurmOptions options;
  options.others = {other};
  return batch_script(options);
}

TEST(SlurmScript, AsksForGpusByTask) {
  SlurmOptions options;
  EXPECT_THAT(batch_script(options), Not(HasSubstr("gpus")));
  options.gpus = 2;
  EXPECT_THAT(batch_script(options), HasSubstr("#SBATCH --ntasks=1\n#SBATCH --gpus-per-task=2\n"));
}

TEST(SlurmScript, HandsOnAnyOtherOption) {
  EXPECT_THAT(script_with("qos=high"), HasSubstr("#SBATCH --qos=high\n"));
  EXPECT_THAT(script_with("--constraint=a100&nvlink"), HasSubstr("#SBATCH --constraint=\"a100&nvlink\"\n"));
  EXPECT_THAT(script_with("exclusive"), HasSubstr("#SBATCH --exclusive\n"));
  EXPECT_THAT(script_with("comment=two words"), HasSubstr("#SBATCH --comment=\"two words\"\n"));
}

TEST(SlurmScript, RefusesWhatItSaysItself) {
  const auto refused = [](const std::string& other) { return message_of<ConfigError>([&] { script_with(other); }); };
  EXPECT_EQ(refused("array=1-3"),
            "slurm: --sbatch array=1-3: the script says --array itself; use --tasks and --at-once");
  EXPECT_EQ(refused("--gpus-per-task=1"),
            "slurm: --sbatch --gpus-per-task=1: the script says --gpus-per-task itself; use --gpus");
  EXPECT_EQ(refused("requeue"), "slurm: --sbatch requeue: the script says --requeue itself");
  for (const char* wrong : {"", "--", "=3", "a b=c", "q\nos=high"})
    EXPECT_THAT(refused(wrong), HasSubstr("expected NAME or NAME=VALUE")) << wrong;
  EXPECT_THAT(refused("comment=two\nlines"), HasSubstr("sbatch takes no line breaks"));
}

}  // namespace
}  // namespace mla
