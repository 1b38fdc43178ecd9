// docs/reference is what the programs write of themselves, and what is installed runs where it is put.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "core/base/file.h"
#include "tests/support/run_program.h"
#include "tests/support/temporary_folder.h"

namespace mla {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::StartsWith;

TEST(Reference, IsUpToDate) {
  const test::TemporaryFolder folder;
  const std::string made = folder.path().string();
  const auto result = test::run_script(cat("set -e\nmlaforge reference ", made, "\nmlaforge-report reference ", made));
  ASSERT_EQ(result.exit_code, 0) << result.err;
  std::size_t pages = 0;
  for (const auto& entry : fs::directory_iterator(folder.path())) {
    const fs::path kept = fs::path(MLA_SOURCE_DIR) / "docs/reference" / entry.path().filename();
    ASSERT_TRUE(fs::exists(kept)) << kept << ": run `make reference`";
    EXPECT_TRUE(read_file(kept) == read_file(entry.path())) << kept << " is not up to date: run `make reference`";
    ++pages;
  }
  EXPECT_EQ(pages, 5u);
  EXPECT_EQ(std::distance(fs::directory_iterator(fs::path(MLA_SOURCE_DIR) / "docs/reference"), {}), 5);
}

TEST(Reference, ManPagesAreWellFormed) {
  const test::TemporaryFolder folder;
  const std::string made = folder.path().string();
  ASSERT_EQ(test::run_script(cat("mlaforge reference ", made, " --format man")).exit_code, 0);
  EXPECT_THAT(read_file(folder / "mlaforge-run.1"), StartsWith(".TH MLAFORGE-RUN 1\n"));
  if (std::system("command -v groff >/dev/null") != 0) GTEST_SKIP() << "groff is not installed";
  const auto checked =
      test::run_script(cat("for page in ", made, "/*.1; do groff -k -man -Tutf8 -ww -z \"$page\" || exit 1; done"));
  EXPECT_EQ(checked.exit_code, 0);
  EXPECT_EQ(checked.err, "");
}

TEST(CompletionScript, OfTheProgramCompletesInBash) {
  const auto result = test::run_script(
      "source <(mlaforge completion bash)\n"
      "offer() { COMP_WORDS=(\"$@\"); COMP_CWORD=$(($#-1)); _mlaforge; echo \"${COMPREPLY[*]}\"; }\n"
      "offer mlaforge ini\noffer mlaforge convert --rope two\noffer mlaforge run --dry\noffer mlaforge schema pre\n"
      "offer mlaforge list allo\noffer mlaforge help keys\n"
      "source <(mlaforge-report completion bash)\nCOMP_WORDS=(mlaforge-report table --metr)\nCOMP_CWORD=2\n"
      "_mlaforge_report\necho \"${COMPREPLY[*]}\"\n");
  EXPECT_EQ(result.err, "");
  EXPECT_EQ(result.out, "init\ntwo_norm\n--dry-run\npretrain\nallocator\nkeys\n--metric\n");
}

TEST(Installed, RunsFromAnotherFolderWithItsPagesAndCompletion) {
  const test::TemporaryFolder folder;
  const fs::path place = folder / "moved here";
  const auto installed = test::run_script(cat("cmake --install " MLA_BINARY_DIR " --component programs --prefix ",
                                              (folder / "first").string(), " >/dev/null"));
  ASSERT_EQ(installed.exit_code, 0) << installed.err;
  fs::rename(folder / "first", place);
  // LibTorch, which is half a gigabyte, would lie there as a copy.
  const fs::path torch = MLA_TORCH_ROOT;
  fs::create_directory_symlink(torch, place / "lib/mlaforge/torch");
  if (fs::exists(torch.parent_path() / "nvidia"))
    fs::create_directory_symlink(torch.parent_path() / "nvidia", place / "lib/mlaforge/nvidia");
  const auto run = test::run_script(cat("cd /\nenv -i \"", place.string(), "/bin/mlaforge\" list device && env -i \"",
                                        place.string(), "/bin/mlaforge-report\" help table && readelf -d \"",
                                        place.string(), "/bin/mlaforge\""));
  EXPECT_EQ(run.exit_code, 0) << run.err;
  EXPECT_THAT(run.out, HasSubstr("cpu: this machine's processors"));
  EXPECT_THAT(run.out, HasSubstr("usage: mlaforge-report table"));
  EXPECT_THAT(run.out, HasSubstr("[$ORIGIN/../lib/mlaforge/torch/lib:$ORIGIN/../lib/mlaforge]"));
  for (const char* file :
       {"share/man/man1/mlaforge.1", "share/man/man1/mlaforge-init.1", "share/man/man1/mlaforge-report-table.1",
        "share/bash-completion/completions/mlaforge", "share/zsh/site-functions/_mlaforge-report",
        "share/fish/vendor_completions.d/mlaforge.fish", "share/doc/mlaforge/LICENSE", "share/doc/mlaforge/NOTICE",
        "share/doc/mlaforge/docs/tutorial.md"}) {
    EXPECT_TRUE(fs::exists(place / file)) << file;
  }
}

}  // namespace
}  // namespace mla
