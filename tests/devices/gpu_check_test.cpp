// The script that tries a machine's GPU, where there is none.
#include <gtest/gtest.h>

#include "core/device/cuda_library.h"
#include "tests/support/run_program.h"

namespace mla {
namespace {

TEST(GpuCheck, RunsOnTheHostAndFindsItEqualToItself) {
  const test::TemporaryFolder folder;
  const std::string bundle = (folder / "mlaforge").string();
  const test::ProgramResult result =
      test::run_script("mkdir -p " + bundle + "/bin && ln -s " MLA_BINARY_DIR "/mlaforge " + bundle +
                       "/bin && DEVICE=cpu THREADS=1 LIBTORCH=" + libtorch_folder().parent_path().string() +
                       " bash " MLA_SOURCE_DIR "/tests/devices/gpu_check.sh " + bundle);
  ASSERT_EQ(result.exit_code, 0) << result.out << result.err;
  const Json report = result.json(), summary = report["summary"];
  EXPECT_EQ(report["device"], "cpu");
  EXPECT_TRUE(report["failed"].empty());
  EXPECT_EQ(report["steps"].size(), 17u);
  for (const auto& [name, value] : summary.items()) EXPECT_FALSE(value.is_null()) << name;
  for (const char* gap : {"nll_gap", "nll_gap_hqq4", "nll_gap_kivi2"}) EXPECT_EQ(summary[gap], 0) << gap;
  EXPECT_EQ(summary["same_greedy_tokens"], true);
  EXPECT_GT(summary["train_share_of_peak"], 0);
}

}  // namespace
}  // namespace mla
