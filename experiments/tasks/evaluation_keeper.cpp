#include "experiments/tasks/evaluation_keeper.h"

#include <system_error>
#include <vector>

namespace mla {
namespace {

constexpr const char* kExtension = ".journal";

}  // namespace

EvaluationKeeper::EvaluationKeeper(std::filesystem::path folder, std::string stage, std::string key)
    : folder_(std::move(folder)), stage_(std::move(stage)), key_(std::move(key)) {}

std::filesystem::path EvaluationKeeper::file(const std::string& task) const {
  std::filesystem::create_directories(folder_);
  return folder_ / (stage_ + "-" + task + kExtension);
}

void EvaluationKeeper::remove() const {
  std::error_code missing;
  if (!keeps()) return;
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(folder_, missing)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with(stage_ + "-") && name.ends_with(kExtension)) files.push_back(entry.path());
  }
  for (const auto& file : files) std::filesystem::remove(file, missing);
}

}  // namespace mla
