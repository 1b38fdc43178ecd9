#include "core/text/piece_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/error.h"
#include "tests/support/errors.h"
#include "tests/support/temporary_folder.h"

namespace mla {
namespace {

using Pieces = std::vector<std::string>;

Pieces read(const std::filesystem::path& file, const std::string& separator) {
  PieceReader reader(file, separator);
  Pieces pieces;
  for (std::string piece; reader.next(piece);) pieces.push_back(piece);
  EXPECT_EQ(reader.bytes_read(), static_cast<std::int64_t>(std::filesystem::file_size(file)));
  return pieces;
}

TEST(PieceReader, CutsAtTheSeparator) {
  const test::TemporaryFolder folder;
  EXPECT_EQ(read(folder.write("a", "one<>two<>"), "<>"), (Pieces{"one", "two", ""}));
  EXPECT_EQ(read(folder.write("a", "<>"), "<>"), (Pieces{"", ""}));
  EXPECT_EQ(read(folder.write("a", "one<two"), "<>"), Pieces{"one<two"});
  EXPECT_EQ(read(folder.write("a", "one<>two"), ""), Pieces{"one<>two"});
  EXPECT_EQ(read(folder.write("a", ""), "\n"), Pieces{""});
}

/// The file is read in blocks of a MiB: separators and pieces that straddle their edges stay whole.
TEST(PieceReader, BlocksDoNotShow) {
  constexpr std::size_t kBlock = 1 << 20;
  const test::TemporaryFolder folder;
  const std::string separator = "<|end|>";
  for (std::size_t shift = 0; shift <= separator.size(); ++shift) {
    const std::string first(kBlock - shift, 'a'), second(2 * kBlock + 5, 'b');
    const Pieces expected{first, "short", second, "last"};
    std::string text;
    for (const std::string& piece : expected) text += (text.empty() ? "" : separator) + piece;
    EXPECT_TRUE(read(folder.write("a", text), separator) == expected) << shift;
  }
}

TEST(PieceReader, NamesWhatItCannotRead) {
  const test::TemporaryFolder folder;
  EXPECT_THAT(test::message_of<DataError>([] { PieceReader("/nowhere/a.txt", ""); }),
              testing::HasSubstr("/nowhere/a.txt: cannot be read"));
  EXPECT_THAT(test::message_of<DataError>([&] { PieceReader(folder.path(), ""); }),
              testing::HasSubstr("expected a file, found a folder"));
}

}  // namespace
}  // namespace mla
