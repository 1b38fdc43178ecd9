// Evaluations are dispatched by their registry: whoever else compares a task's name would have to be edited for the
// next.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <regex>
#include <set>
#include <string>
#include <vector>

namespace {

namespace fs = std::filesystem;

std::string text_of(const fs::path& file) {
  std::ifstream stream(file);
  return {std::istreambuf_iterator<char>(stream), {}};
}

std::vector<fs::path> sources_below(const fs::path& folder) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    const std::string extension = entry.path().extension().string();
    if (extension == ".h" || extension == ".cpp") files.push_back(entry.path());
  }
  return files;
}

/// The name that a file registers a task under, and the file.
std::map<std::string, fs::path> registered_tasks() {
  const std::regex registration(R"re(TaskRegistration<\w+> k\w+\(\s*(?:"(\w+)"|(k\w+)))re");
  std::map<std::string, fs::path> tasks;
  for (const fs::path& file : sources_below(fs::path(MLA_SOURCE_DIR) / "experiments/tasks")) {
    const std::string text = text_of(file);
    std::smatch found;
    if (!std::regex_search(text, found, registration)) continue;
    std::string name = found[1];
    if (found[2].matched) {
      std::smatch constant;
      EXPECT_TRUE(std::regex_search(text, constant, std::regex(found[2].str() + " = \"(\\w+)\""))) << file;
      name = constant[1];
    }
    EXPECT_TRUE(tasks.emplace(name, file).second) << name << " is registered twice";
  }
  return tasks;
}

/// The task names that a line compares something other than a metric with, gives to a `.task`, or lists.
std::set<std::string> dispatched_names(const std::string& line, const std::map<std::string, fs::path>& tasks) {
  static const std::regex compared(R"re((\S+)\s*[!=]=\s*"(\w+)")re"), compared_from_left(R"re("(\w+)"\s*[!=]=)re"),
      given(R"re((?:\.|->)task\s*=\s*"(\w+)")re"), quoted(R"re("(\w+)")re");
  std::set<std::string> names, listed;
  const auto each = [&](const std::regex& pattern, const auto& use) {
    std::for_each(std::sregex_iterator(line.begin(), line.end(), pattern), std::sregex_iterator(), use);
  };
  each(compared, [&](const std::smatch& match) {
    if (match[1].str().find("metric") == std::string::npos) names.insert(match[2]);
  });
  each(compared_from_left, [&](const std::smatch& match) { names.insert(match[1]); });
  each(given, [&](const std::smatch& match) { names.insert(match[1]); });
  each(quoted, [&](const std::smatch& match) {
    if (tasks.contains(match[1])) listed.insert(match[1]);
  });
  if (listed.size() > 1) names.merge(listed);
  std::erase_if(names, [&](const std::string& name) { return !tasks.contains(name); });
  return names;
}

TEST(TaskNames, StandInTheirOwnFilesAlone) {
  const auto tasks = registered_tasks();
  ASSERT_GE(tasks.size(), 6u) << "the pattern no longer finds registrations";
  std::size_t lines = 0;
  for (const char* house : {"core", "experiments", "analysis"}) {
    for (const fs::path& file : sources_below(fs::path(MLA_SOURCE_DIR) / house)) {
      std::ifstream stream(file);
      for (std::string line; std::getline(stream, line); ++lines) {
        for (const std::string& name : dispatched_names(line, tasks))
          EXPECT_EQ(file, tasks.at(name)) << "names the task " << name << ": " << line;
      }
    }
  }
  EXPECT_GT(lines, 10000u);
}

TEST(TaskNames, AreFoundHoweverTheyAreCompared) {
  const std::map<std::string, fs::path> tasks = {{"recall", ""}, {"mean", ""}};
  for (const char* line :
       {R"(if (task.task == "recall") return;)", R"(if ("recall" != config.task) return;)",
        R"(each.value("task", "") != "recall")", R"(task_.task = "recall";)", R"(check(path, {"mean", "recall"});)"})
    EXPECT_TRUE(dispatched_names(line, tasks).contains("recall")) << line;
  for (const char* line : {R"(if (score.metric == "recall") return;)", R"(Progress bar("recall", 3);)",
                           R"(visit("mean", self.mean, "of them");)", R"(if (task.task == "other") return;)"})
    EXPECT_TRUE(dispatched_names(line, tasks).empty()) << line;
}

}  // namespace
