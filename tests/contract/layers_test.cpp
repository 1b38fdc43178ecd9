// Holds the drawing of the house: which folder may include which.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <string>
#include <vector>

namespace {

namespace fs = std::filesystem;

const std::map<std::string, std::set<std::string>> kMayInclude = {
    {"core/base", {}},
    {"core/cli", {"core/base"}},
    {"core/store", {"core/base"}},
    {"core/startup", {}},
    {"core/gguf", {"core/base"}},
    {"core/text", {"core/base", "core/gguf"}},
    {"core/metrics", {"core/base", "core/text"}},
    {"core/device", {"core/base", "core/ops"}},
    {"core/linalg", {"core/base"}},
    {"core/partial_rope", {"core/base"}},
    {"core/low_rank", {"core/base", "core/linalg"}},
    {"core/quantize", {"core/base", "core/ops"}},
    {"core/kv_cache", {"core/base", "core/quantize"}},
    {"core/ops", {"core/base"}},
    {"core/attention",
     {"core/base", "core/ops", "core/partial_rope", "core/low_rank", "core/quantize", "core/kv_cache"}},
    {"core/model",
     {"core/base", "core/gguf", "core/text", "core/device", "core/ops", "core/attention", "core/partial_rope",
      "core/low_rank", "core/kv_cache"}},
    {"core/compress",
     {"core/base", "core/text", "core/linalg", "core/ops", "core/partial_rope", "core/low_rank", "core/attention",
      "core/model"}},
    {"core/train", {"core/base", "core/text", "core/device", "core/ops", "core/attention", "core/model"}},
    {"core/mpi", {"core/base", "core/train"}},
    {"core/evaluate",
     {"core/base", "core/text", "core/metrics", "core/ops", "core/quantize", "core/kv_cache", "core/attention",
      "core/model"}},
    {"core/serve",
     {"core/base", "core/gguf", "core/text", "core/ops", "core/partial_rope", "core/low_rank", "core/attention",
      "core/model"}},

    {"experiments/cli", {"core"}},
    {"experiments/model", {"core", "experiments/cli"}},
    {"experiments/data", {"core", "experiments/model"}},
    {"experiments/cache", {"core", "experiments/data"}},
    {"experiments/tasks", {"core", "experiments/data", "experiments/cache", "experiments/bench"}},
    {"experiments/config", {"core", "experiments/model", "experiments/data", "experiments/cache", "experiments/tasks"}},
    {"experiments/plan", {"core", "experiments/cache", "experiments/config"}},
    {"experiments/automatic", {"core", "experiments/cli", "experiments/cache", "experiments/plan"}},
    {"experiments/cell",
     {"core", "experiments/model", "experiments/data", "experiments/config", "experiments/plan", "experiments/tasks"}},
    {"experiments/attribution",
     {"core", "experiments/model", "experiments/cache", "experiments/plan", "experiments/tasks", "experiments/cell"}},
    {"experiments/sweep",
     {"core", "experiments/cli", "experiments/cache", "experiments/plan", "experiments/tasks", "experiments/cell"}},
    {"experiments/bench", {"core", "experiments/model", "experiments/cache"}},
    {"experiments/conformance", {"core", "experiments/cache"}},
    {"experiments/commands", {"core", "experiments"}},

    {"analysis/cli", {"core/base", "core/cli"}},
    {"analysis/records", {"core/base", "core/store"}},
    {"analysis/tables", {"core/base", "core/store", "analysis/records"}},
    {"analysis/pivot", {"core/base", "core/store", "analysis/records", "analysis/tables"}},
    {"analysis/figures", {"core/base", "core/store", "analysis/records", "analysis/tables", "analysis/pivot"}},
    {"analysis/compare", {"core/base", "core/store", "analysis/records", "analysis/tables"}},
    {"analysis/planner", {"core/base", "core/store", "analysis/records", "analysis/tables", "analysis/figures"}},
    {"analysis/page",
     {"core/base", "core/store", "analysis/records", "analysis/tables", "analysis/pivot", "analysis/figures"}},
    {"analysis/reference", {"core/base", "core/cli", "core/store"}},
    {"analysis/commands", {"core/base", "core/cli", "analysis"}},
};

const std::vector<std::string> kHouses = {"core", "experiments", "analysis"};

/// "core/base" of "core/base/error.h"; "experiments" of a file that stands in no room.
std::string room_of(const std::string& path) {
  const std::size_t first = path.find('/'), second = path.find('/', first + 1);
  return path.substr(0, second == std::string::npos ? first : second);
}

/// Whether `allowed` names the room, or the house it stands in.
bool may_include(const std::set<std::string>& allowed, const std::string& room) {
  return allowed.contains(room) || allowed.contains(room.substr(0, room.find('/')));
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
        EXPECT_TRUE(target == room || may_include(allowed, target))
            << entry.path().string() << " includes " << match[1];
      }
    }
  }
  EXPECT_GT(checked, 100u) << "the pattern no longer finds includes";
}

TEST(Layers, EveryRoomStandsInTheTable) {
  for (const std::string& house : kHouses) {
    for (const auto& entry : fs::directory_iterator(fs::path(MLA_SOURCE_DIR) / house)) {
      const std::string name = entry.path().filename().string();
      if (entry.is_directory()) {
        EXPECT_TRUE(kMayInclude.contains(house + "/" + name)) << entry.path();
      } else if (entry.path().extension() == ".h" || entry.path().extension() == ".cpp") {
        EXPECT_EQ(name, "main.cpp") << house << " has rooms for its files";
      }
    }
  }
}

/// Whether includes that the table permits lead from `room` to `target`.
bool leads_to(const std::string& room, const std::string& target, std::set<std::string>& seen) {
  if (!kMayInclude.contains(room) || !seen.insert(room).second) return false;  // a whole house has no row
  const std::set<std::string>& below = kMayInclude.at(room);
  return below.contains(target) ||
         std::any_of(below.begin(), below.end(), [&](const auto& next) { return leads_to(next, target, seen); });
}

TEST(Layers, TheTableHasNoCircle) {
  for (const auto& [room, allowed] : kMayInclude) {
    std::set<std::string> seen;
    EXPECT_FALSE(leads_to(room, room, seen)) << room;
  }
}

}  // namespace
