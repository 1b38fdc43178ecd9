// Thousands of records, in the program that was built: processor time and memory.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <cstdlib>

#include "core/base/file.h"
#include "tests/analysis/synthetic_records.h"
#include "tests/support/sanitizers.h"
#include "tests/support/temporary_folder.h"

namespace mla {
namespace {

namespace fs = std::filesystem;

constexpr int kRecords = 5000, kDistinct = 72;
constexpr double kTableSeconds = 2, kPageSeconds = 10;
constexpr long kMostKilobytes = 500'000;

double child_seconds() {
  rusage usage{};
  ::getrusage(RUSAGE_CHILDREN, &usage);
  return static_cast<double>(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
         static_cast<double>(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

/// Processor seconds of a command.
double seconds_of(const std::string& command) {
  const double before = child_seconds();
  EXPECT_EQ(std::system((MLA_BINARY_DIR "/mlaforge-report " + command).c_str()), 0) << command;
  return child_seconds() - before;
}

TEST(ManyRecords, TablesAndPagesComeInSeconds) {
  if (test::kSanitized) GTEST_SKIP() << "sanitizers change time and memory";
  const test::TemporaryFolder folder;
  const fs::path sweep = folder / "results/sweep";
  test::write_synthetic_records(folder / "results", kDistinct);
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(sweep)) files.push_back(entry.path());
  for (const fs::path& file : files) {  // without a hash, copies count as runs of their own
    RunRecord record = read_record(file);
    record.head.content_hash.clear();
    write_record(file, record);
  }
  for (int i = kDistinct; i < kRecords; ++i) {
    const fs::path& file = files[static_cast<std::size_t>(i % kDistinct)];
    fs::create_hard_link(file, sweep / (file.stem().string() + ",copy=" + std::to_string(i / kDistinct) + ".h5"));
  }
  const std::string results = (folder / "results").string(), out = (folder / "out").string();
  const double table = seconds_of("table " + results + " > " + out);
  EXPECT_NE(read_file(out).find("70"), std::string::npos) << "runs a row";
  EXPECT_LT(table, kTableSeconds);
  const double page = seconds_of("html " + results + " --output " + out + ".html 2>/dev/null");
  EXPECT_LT(page, kPageSeconds);
  rusage usage{};
  ::getrusage(RUSAGE_CHILDREN, &usage);
  EXPECT_LT(usage.ru_maxrss, kMostKilobytes);
  RecordProperty("table_seconds", cat(table));
  RecordProperty("page_seconds", cat(page));
}

TEST(ManyRecords, AnEmptyFolderIsToldAtOnce) {
  if (test::kSanitized) GTEST_SKIP() << "sanitizers change time";
  const test::TemporaryFolder folder;
  EXPECT_LT(seconds_of("table table1 " + folder.path().string() + " >/dev/null"), kTableSeconds)
      << "the paper's numbers alone";
  EXPECT_LT(seconds_of("html " + folder.path().string() + " --output " + (folder / "x.html").string() + " 2>/dev/null"),
            kPageSeconds);
  EXPECT_LT(seconds_of("summary " + folder.path().string() + " >/dev/null"), kTableSeconds);
}

}  // namespace
}  // namespace mla
