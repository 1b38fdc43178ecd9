#include "core/base/file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <iterator>

#include "core/base/error.h"
#include "tests/support/errors.h"
#include "tests/support/small_files.h"
#include "tests/support/temporary_folder.h"

namespace mla {
namespace {

using test::message_of;
using test::TemporaryFolder;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

std::size_t entries(const std::filesystem::path& folder) {
  const std::filesystem::directory_iterator begin(folder);
  return static_cast<std::size_t>(std::distance(begin, std::filesystem::directory_iterator()));
}

TEST(File, ReadsWhatWasWritten) {
  const TemporaryFolder folder;
  const std::string bytes("a\0b\n\xff", 5);
  write_file_atomically(folder / "deep/er/x", bytes);
  EXPECT_EQ(read_file(folder / "deep/er/x"), bytes);
  write_file_atomically(folder / "deep/er/x", "");
  EXPECT_EQ(read_file(folder / "deep/er/x"), "");
  EXPECT_EQ(entries(folder / "deep/er"), 1u) << "a temporary file was left";
}

TEST(File, ReadsFilesLargerThanABlock) {
  const TemporaryFolder folder;
  std::string bytes(300'001, 'x');
  bytes.back() = 'y';
  write_file_atomically(folder / "x", bytes);
  EXPECT_EQ(read_file(folder / "x"), bytes);
}

TEST(File, ReadingErrorsNameTheFileAndTheReason) {
  const TemporaryFolder folder;
  EXPECT_EQ(message_of<DataError>([&] { read_file(folder / "none"); }),
            (folder / "none").string() + ": cannot be read: No such file or directory");
  EXPECT_EQ(message_of<DataError>([&] { read_file(folder.path()); }),
            folder.path().string() + ": expected a file, found a folder");
}

TEST(File, AFolderThatCannotBeMadeIsADataError) {
  const TemporaryFolder folder;
  folder.write("results", "a file where a folder is wanted");
  EXPECT_THAT(message_of<DataError>([&] { write_file_atomically(folder / "results/x", "1"); }),
              AllOf(StartsWith((folder / "results").string()), HasSubstr("cannot be made")));
  EXPECT_THAT(message_of<DataError>([&] { write_file_atomically("/proc/x", "1"); }),
              StartsWith("/proc/x: cannot be written: "));
}

TEST(File, AFolderInTheWayIsADataErrorAndLeavesNothing) {
  const TemporaryFolder folder;
  std::filesystem::create_directories(folder / "x/inside");
  EXPECT_THAT(message_of<DataError>([&] { write_file_atomically(folder / "x", "1"); }),
              AllOf(StartsWith((folder / "x").string()), HasSubstr("cannot be written")));
  EXPECT_EQ(entries(folder.path()), 1u);
}

TEST(File, AFailedWriteKeepsTheOldFileAndLeavesNoTemporary) {
  const TemporaryFolder folder;
  write_file_atomically(folder / "x", "old");
  {
    const test::SmallFilesOnly limit(1 << 16);
    EXPECT_THAT(message_of<DataError>([&] { write_file_atomically(folder / "x", std::string(1 << 20, 'n')); }),
                AllOf(StartsWith((folder / "x").string()), HasSubstr("cannot be written: ")));
  }
  EXPECT_EQ(read_file(folder / "x"), "old");
  EXPECT_EQ(entries(folder.path()), 1u);
}

TEST(File, TemporaryNamesLieBesideTheFileAndDiffer) {
  EXPECT_EQ(temporary_name("a/b.h5").parent_path(), "a");
  EXPECT_NE(temporary_name("a/b.h5"), temporary_name("a/b.h5"));
}

TEST(File, WritersInTurnRemoveWhatAKilledOneLeft) {
  const TemporaryFolder folder;
  write_file_atomically(temporary_name(folder / "x"), "half");
  write_file_atomically(temporary_name(folder / "other"), "not ours");
  write_file_in_turn(folder / "x", "whole");
  EXPECT_EQ(read_file(folder / "x"), "whole");
  EXPECT_EQ(entries(folder / ""), 2u);
}

TEST(MappedFile, HoldsTheBytes) {
  const TemporaryFolder folder;
  const MappedFile file(folder.write("x", "abc"));
  ASSERT_EQ(file.size(), 3u);
  EXPECT_EQ(static_cast<char>(file.data()[2]), 'c');
  EXPECT_EQ(file.path(), folder / "x");
}

TEST(MappedFile, EmptyAndMissingFilesAreDataErrors) {
  const TemporaryFolder folder;
  EXPECT_THAT(message_of<DataError>([&] { MappedFile(folder.write("x", "")); }), HasSubstr("the file is empty"));
  EXPECT_THAT(message_of<DataError>([&] { MappedFile(folder / "y"); }), HasSubstr("No such file"));
}

}  // namespace
}  // namespace mla
