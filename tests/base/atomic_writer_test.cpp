#include "core/base/atomic_writer.h"

#include <gtest/gtest.h>

#include <string>

#include "core/base/error.h"
#include "core/base/file.h"
#include "tests/support/errors.h"
#include "tests/support/small_files.h"
#include "tests/support/temporary_folder.h"

namespace mla {
namespace {

constexpr std::size_t kBlock = 8 * 1024 * 1024;

std::string pattern(std::size_t count) {
  std::string bytes(count, '\0');
  for (std::size_t i = 0; i < count; ++i) bytes[i] = static_cast<char>(i * 2654435761U >> 7);
  return bytes;
}

TEST(AtomicWriter, WritesEverythingInOrderWhateverTheSizes) {
  const test::TemporaryFolder folder;
  for (const std::size_t size : {std::size_t{0}, std::size_t{1}, kBlock - 1, kBlock, kBlock + 1, 2 * kBlock + 4097}) {
    const std::string bytes = pattern(size);
    AtomicWriter writer(folder / "file");
    for (std::size_t at = 0; at < size; at += 1000003)
      writer.write(bytes.data() + at, std::min<std::size_t>(1000003, size - at));
    writer.finish({});
    EXPECT_TRUE(read_file(folder / "file") == bytes) << size;
  }
}

TEST(AtomicWriter, TheOldFileStandsUntilTheNewOneIsWhole) {
  const test::TemporaryFolder folder;
  folder.write("file", "old");
  {
    AtomicWriter writer(folder / "file");
    writer.write("new", 3);
    EXPECT_EQ(read_file(folder / "file"), "old");
  }
  EXPECT_EQ(read_file(folder / "file"), "old");
  AtomicWriter writer(folder / "file");
  writer.write("new", 3);
  writer.finish([&] { EXPECT_EQ(read_file(folder / "file"), "old"); });
  EXPECT_EQ(read_file(folder / "file"), "new");
}

TEST(AtomicWriter, AFullDiskIsOneErrorAndLeavesNothing) {
  const test::TemporaryFolder folder;
  const std::string bytes = pattern(2 * kBlock);
  std::string message;
  {
    const test::SmallFilesOnly limit(kBlock / 2);
    message = test::message_of<DataError>([&] {
      AtomicWriter writer(folder / "file");
      writer.write(bytes.data(), bytes.size());
      writer.finish({});
    });
  }
  EXPECT_EQ(message, (folder / "file").string() + ": cannot be written: File too large");
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(AtomicWriter, OverwritesAHeaderAtTheEnd) {
  const test::TemporaryFolder folder;
  for (const std::size_t size : {std::size_t{10}, std::size_t{8} << 20, (std::size_t{8} << 20) + 5}) {
    AtomicWriter writer(folder / "a");
    const std::string room(4, '.'), body(size, 'b');
    writer.write(room.data(), room.size());
    writer.write(body.data(), body.size());
    writer.overwrite(0, "head", 4);
    writer.finish({});
    EXPECT_TRUE(read_file(folder / "a") == "head" + body) << size;
  }
}

}  // namespace
}  // namespace mla
