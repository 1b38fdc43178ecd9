// docs/tutorial.md is what its commands do: they are run, in a folder of their own.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <sstream>

#include "core/base/file.h"
#include "tests/support/run_program.h"
#include "tests/support/temporary_folder.h"

namespace mla {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

/// The text of all blocks of one language, in order; blocks without a language are not for running.
std::string blocks(const std::string& page, const std::string& language) {
  std::string text;
  bool inside = false;
  std::istringstream lines(page);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("```")) {
      inside = !inside && line == "```" + language;
    } else if (inside) {
      text += line + "\n";
    }
  }
  return text;
}

TEST(Tutorial, EveryCommandRunsAndLeadsToAFigure) {
  const test::TemporaryFolder folder;
  const std::string page = read_file(fs::path(MLA_SOURCE_DIR) / "docs/tutorial.md"), commands = blocks(page, "sh");
  fs::create_directory_symlink(fs::path(MLA_SOURCE_DIR) / "data", folder / "data");
  const auto result = test::run_script(cat("set -euo pipefail\ncd ", folder.path().string(), "\n", commands));
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(read_file(folder / "results/tutorial/mine.yaml"), blocks(page, "yaml"));
  const fs::path tutorial = folder / "results/tutorial";
  EXPECT_THAT(read_file(tutorial / "figures/pareto.svg"), HasSubstr("</svg>"));
  EXPECT_GT(fs::file_size(tutorial / "report.html"), 1000u);
  EXPECT_EQ(std::distance(fs::directory_iterator(tutorial / "mine"), {}) >= 4, true);
  EXPECT_TRUE(fs::exists(tutorial / "model/config.json"));
  for (const char* said : {"next: mlaforge run results/tutorial/mine.yaml", "time: about ", "train.learning_rate"})
    EXPECT_THAT(result.out, HasSubstr(said));
}

}  // namespace
}  // namespace mla
