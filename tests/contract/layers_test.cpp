// Holds the drawing of the house: which folder may include which.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <string>

namespace {

namespace fs = std::filesystem;

const std::map<std::string, std::set<std::string>> kMayInclude = {
    {"core/base", {}},
    {"core/store", {"core/base"}},
    {"core/text", {"core/base"}},
    {"core/metrics", {"core/base", "core/text"}},
    {"core/linalg", {"core/base"}},
    {"core/partial_rope", {"core/base"}},
    {"core/low_rank", {"core/base", "core/linalg"}},
    {"core/quantize", {"core/base", "core/ops"}},
    {"core/kv_cache", {"core/base", "core/quantize"}},
    {"core/ops", {"core/base"}},
    {"core/attention",
     {"core/base", "core/ops", "core/partial_rope", "core/low_rank", "core/quantize", "core/kv_cache"}},
    {"core/model", {"core/base", "core/ops", "core/attention", "core/partial_rope", "core/low_rank", "core/kv_cache"}},
    {"core/compress",
     {"core/base", "core/linalg", "core/partial_rope", "core/low_rank", "core/attention", "core/model"}},
    {"core/train", {"core/base", "core/text", "core/ops", "core/attention", "core/model"}},
    {"core/mpi", {"core/base", "core/train"}},
    {"core/evaluate",
     {"core/base", "core/text", "core/metrics", "core/ops", "core/quantize", "core/kv_cache", "core/attention",
      "core/model"}},
    {"analysis", {"core/base", "core/store"}},
};

/// "core/base" of "core/base/error.h", "analysis" of "analysis/summary.h".
std::string room_of(const std::string& path) {
  const std::size_t first = path.find('/');
  if (path.substr(0, first) != "core") return path.substr(0, first);
  return path.substr(0, path.find('/', first + 1));
}

TEST(Layers, IncludesPointDown) {
  const std::regex include(R"(^\s*#include "((?:core|experiments|analysis|tests)/[^"]+)\")");
  const fs::path root = MLA_SOURCE_DIR;
  std::size_t checked = 0;
  for (const auto& [room, allowed] : kMayInclude) {
    ASSERT_TRUE(fs::is_directory(root / room)) << room;
    for (const auto& entry : fs::recursive_directory_iterator(root / room)) {
      const std::string extension = entry.path().extension().string();
      if (extension != ".h" && extension != ".cpp") continue;
      std::ifstream file(entry.path());
      for (std::string line; std::getline(file, line);) {
        std::smatch match;
        if (!std::regex_search(line, match, include)) continue;
        ++checked;
        const std::string target = room_of(match[1]);
        EXPECT_TRUE(target == room || allowed.contains(target)) << entry.path().string() << " includes " << match[1];
      }
    }
  }
  EXPECT_GT(checked, 100u) << "the pattern no longer finds includes";
}

TEST(Layers, EveryRoomOfCoreStandsInTheTable) {
  for (const auto& entry : fs::directory_iterator(fs::path(MLA_SOURCE_DIR) / "core")) {
    if (!entry.is_directory()) continue;
    EXPECT_TRUE(kMayInclude.contains("core/" + entry.path().filename().string())) << entry.path();
  }
}

}  // namespace
