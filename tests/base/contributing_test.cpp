// CONTRIBUTING.md's list of places leads there.
#include <gtest/gtest.h>

#include <filesystem>
#include <regex>
#include <sstream>
#include <string>

#include "core/base/file.h"

namespace mla {
namespace {

TEST(Contributing, PlacesToChangeThingsAreWhereItSays) {
  const std::filesystem::path root = MLA_SOURCE_DIR;
  const std::string page = read_file(root / "CONTRIBUTING.md"), title = "\n## Where do I change";
  const std::size_t begin = page.find(title);
  ASSERT_NE(begin, std::string::npos);
  std::istringstream section(page.substr(begin + 1, page.find("\n## ", begin + 1) - begin));
  const std::regex row(R"(\| (.+) \| `([^`]+)` \| `([^`]+)` \|)");
  std::size_t rows = 0;
  for (std::string line; std::getline(section, line);) {
    if (!line.starts_with("| ") || line.starts_with("| to change")) continue;
    std::smatch match;
    ASSERT_TRUE(std::regex_match(line, match, row)) << line;
    ++rows;
    ASSERT_TRUE(std::filesystem::is_regular_file(root / match[2].str())) << line;
    EXPECT_NE(read_file(root / match[2].str()).find(match[3]), std::string::npos) << line;
  }
  EXPECT_GE(rows, 20u);
}

}  // namespace
}  // namespace mla
