// Messages of errors: readable whatever names and values a file brings into them.
#include "core/base/error.h"

#include <gtest/gtest.h>

#include <tuple>

#include "core/base/path_error.h"

namespace mla {
namespace {

TEST(Error, ControlCharactersAreSpeltOut) {
  EXPECT_STREQ(DataError(std::string("key '\0a\x1b[2J' = 1", 16)).what(), "key '\\x00a\\x1B[2J' = 1");
  EXPECT_STREQ(ConfigError("line one\n\tline two, \xC3\xA9").what(), "line one\n\tline two, \xC3\xA9");
}

TEST(Error, LongMessagesAreCutBetweenCharacters) {
  std::string message = "x";
  while (message.size() < 10'000) message += "\xC3\xA9";
  const std::string cut = DataError(message).what();
  EXPECT_LT(cut.size(), 3100u);
  EXPECT_TRUE(cut.ends_with("\xC3\xA9... (10001 bytes)")) << cut.substr(cut.size() - 40);
}

TEST(PathErrors, BeginWithThePath) {
  try {
    std::ignore = std::filesystem::file_size("/no/such/file");
    FAIL() << "found it";
  } catch (const std::filesystem::filesystem_error& error) {
    EXPECT_EQ(told_by_path(error), "/no/such/file: No such file or directory");
  }
}

}  // namespace
}  // namespace mla
