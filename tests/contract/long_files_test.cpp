// No file of own code is longer than one can read at a time, unless it says why.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <vector>

namespace mla {
namespace {

constexpr std::size_t kLongFile = 400;  // lines
constexpr std::size_t kTopLines = 5;

std::vector<std::string> lines_of(const std::filesystem::path& path) {
  std::vector<std::string> lines;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  return lines;
}

bool says_why(const std::vector<std::string>& lines) {
  return std::any_of(lines.begin(), lines.begin() + std::min(kTopLines, lines.size()), [](const std::string& line) {
    return line.starts_with("// Long because ") || line.starts_with("# Long because ");
  });
}

TEST(LongFiles, SayWhy) {
  const std::set<std::string> own = {".h", ".cpp", ".css", ".js", ".sh", ".cmake"};
  std::size_t checked = 0;
  for (const char* folder : {"core", "experiments", "analysis", "tests", "cmake"}) {
    const auto root = std::filesystem::path(MLA_SOURCE_DIR) / folder;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(root)) {
      if (!entry.is_regular_file() || !own.contains(entry.path().extension().string())) continue;
      const std::vector<std::string> lines = lines_of(entry.path());
      EXPECT_TRUE(lines.size() <= kLongFile || says_why(lines))
          << entry.path().string() << " has " << lines.size()
          << " lines: split it by jobs, or write at its top `// Long because …`";
      ++checked;
    }
  }
  EXPECT_GT(checked, 500U) << "the folders have other names";
}

}  // namespace
}  // namespace mla
