// The examples of docs/records.md run as they stand there.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "core/base/file.h"
#include "tests/analysis/synthetic_records.h"
#include "tests/support/temporary_folder.h"

namespace mla {
namespace {

/// The code block after a heading.
std::string example(const std::string& heading) {
  const std::string text = read_file(std::filesystem::path(MLA_SOURCE_DIR) / "docs/records.md");
  const std::size_t begin = text.find("```python\n", text.find(heading)) + 10;
  return text.substr(begin, text.find("```", begin) - begin);
}

bool has_module(const char* name) {
  return std::system(cat("/usr/bin/python3 -c 'import ", name, "' 2>/dev/null").c_str()) == 0;
}

TEST(Documents, TheH5pyExampleReadsARecord) {
  if (!has_module("h5py")) GTEST_SKIP() << "python3-h5py is not installed";
  const test::TemporaryFolder folder;
  const RunRecord record = test::synthetic_record({});
  write_record(folder / "x.h5", record);
  folder.write("example.py", example("## With h5py"));
  const std::string command = cat("cd ", folder.path().string(), " && /usr/bin/python3 example.py x.h5 > out");
  ASSERT_EQ(std::system(command.c_str()), 0);
  const std::string out = read_file(folder / "out");
  EXPECT_EQ(std::count(out.begin(), out.end(), '\n'), static_cast<std::ptrdiff_t>(record.evaluation.size()));
  EXPECT_THAT(out, testing::HasSubstr(cat(record.head.cell, "\tsource\tagreement\taccuracy_normalized\t",
                                          Json(record.evaluation[0].value).dump(), "\t40\n")));
}

TEST(Documents, ThePandasExamplePivots) {
  if (!has_module("pandas")) GTEST_SKIP() << "python3-pandas is not installed";
  const test::TemporaryFolder folder;
  write_record(folder / "results/demo/x.h5", test::synthetic_record({}));
  folder.write("example.py", example("## With pandas"));
  const std::string command =
      cat("cd ", folder.path().string(), " && PATH=" MLA_BINARY_DIR ":$PATH /usr/bin/python3 example.py > out");
  ASSERT_EQ(std::system(command.c_str()), 0);
  EXPECT_THAT(read_file(folder / "out"), testing::HasSubstr("two_norm"));
}

}  // namespace
}  // namespace mla
