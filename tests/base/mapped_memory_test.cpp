// Memory that stands in files, and amounts of it.
#include "core/base/mapped_memory.h"

#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <numeric>
#include <vector>

#include "core/base/byte_size.h"
#include "core/base/error.h"
#include "core/base/file.h"
#include "tests/support/errors.h"
#include "tests/support/temporary_folder.h"

namespace mla {
namespace {

constexpr std::size_t kMuch = 32 << 20;

/// Bytes of this process's memory that stand in files and are in memory now.
std::size_t mapped_resident() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("RssFile:")) return std::stoul(line.substr(8)) * 1024;
  }
  return 0;
}

std::size_t sum(const std::byte* bytes, std::size_t size) {
  return std::accumulate(bytes, bytes + size, std::size_t{0},
                         [](std::size_t total, std::byte one) { return total + std::to_integer<std::size_t>(one); });
}

TEST(MappedMemory, IsGivenBackAndReadAgain) {
  const test::TemporaryFolder folder;
  const MappedFile file(folder.write("much", std::string(kMuch, '\3')));
  const std::size_t before = mapped_resident();
  EXPECT_EQ(sum(file.data(), kMuch), 3 * kMuch);
  EXPECT_GE(mapped_resident(), before + kMuch / 2);
  release_mapped(file.data(), kMuch);
  EXPECT_LT(mapped_resident(), before + kMuch / 4);
  EXPECT_EQ(sum(file.data() + 5, kMuch - 5), 3 * (kMuch - 5));
}

TEST(MappedMemory, OfAProgramStaysAsItIs) {
  std::vector<std::byte> own(1 << 20, std::byte{7});
  EXPECT_FALSE(is_mapped(own.data(), own.size()));
  release_mapped(own.data(), own.size());
  EXPECT_EQ(sum(own.data(), own.size()), 7 * own.size());
}

TEST(MappedMemory, RangesEndWhereTheyEnd) {
  const test::TemporaryFolder folder;
  const std::byte* gone = nullptr;
  {
    const MappedFile file(folder.write("some", std::string(10'000, 'x')));
    gone = file.data();
    EXPECT_TRUE(is_mapped(file.data(), 10'000));
    EXPECT_TRUE(is_mapped(file.data() + 9'999, 1));
    EXPECT_FALSE(is_mapped(file.data() + 9'999, 2));
  }
  EXPECT_FALSE(is_mapped(gone, 1));
}

TEST(ScratchFile, KeepsWhatItIsGivenAndCanBeWrittenTo) {
  const test::TemporaryFolder folder;
  std::shared_ptr<std::byte> first, second;
  {
    ScratchFile scratch(folder.path());
    EXPECT_TRUE(std::filesystem::is_empty(folder.path())) << "its file has a name";
    const std::vector<std::byte> ones(5'000, std::byte{1}), twos(70'000, std::byte{2});
    first = scratch.keep(ones.data(), ones.size());
    second = scratch.keep(twos.data(), twos.size());
  }
  EXPECT_EQ(sum(first.get(), 5'000), 5'000u);
  std::memset(second.get(), 4, 100);
  release_mapped(second.get(), 70'000);
  EXPECT_EQ(sum(second.get(), 70'000), 2 * 70'000u + 2 * 100) << "what was written is lost with its pages";
  const std::byte* gone = first.get();
  first.reset();
  EXPECT_FALSE(is_mapped(gone, 1));
}

TEST(ScratchFile, NeedsAFolder) {
  EXPECT_NE(test::message_of<DataError>([] { ScratchFile("/nowhere/at/all"); }).find("/nowhere/at/all"),
            std::string::npos);
}

TEST(ByteSize, IsReadAndWritten) {
  EXPECT_EQ(parse_bytes("1000000", "--size"), 1'000'000);
  EXPECT_EQ(parse_bytes("200MB", "--size"), 200'000'000);
  EXPECT_EQ(parse_bytes("5gb", "--size"), 5'000'000'000);
  EXPECT_EQ(parse_bytes("3kb", "--size"), 3'000);
  EXPECT_EQ(parse_bytes("12345678901", "--size"), 12'345'678'901);
  for (const char* wrong : {"", "MB", "-1", "0", "0GB", "1.5GB", "7TB", "99999999999999999999", "5 GB"}) {
    EXPECT_NE(test::message_of<ConfigError>([&] { parse_bytes(wrong, "--size"); }).find("--size"), std::string::npos)
        << wrong;
  }
  EXPECT_EQ(describe_bytes(7), "7 bytes");
  EXPECT_EQ(describe_bytes(1'000), "1.00 KB");
  EXPECT_EQ(describe_bytes(13'476'838'400), "13.5 GB");
  EXPECT_EQ(describe_bytes(999'999'999), "1.00 GB");
  EXPECT_EQ(describe_bytes(161'000'000'000), "161 GB");
}

}  // namespace
}  // namespace mla
