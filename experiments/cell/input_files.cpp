#include "experiments/cell/input_files.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <set>

#include "core/base/error.h"
#include "core/base/json.h"
#include "core/model/weight_files.h"
#include "experiments/model/model_files.h"

namespace mla {
namespace {

namespace fs = std::filesystem;

/// Why the file cannot be read; "" where it can.
std::string fault_of(const fs::path& file) {
  std::error_code error;
  if (fs::is_directory(file, error)) return cat(file.string(), ": is a folder; a file is wanted");
  std::ifstream in(file, std::ios::binary);
  if (!in) return cat(file.string(), ": cannot be read: ", std::strerror(errno));
  if (in.peek() == std::ifstream::traits_type::eof()) return cat(file.string(), ": is empty");
  return "";
}

/// The files of a model's weights: those of a folder stand in its index, or are one.
std::vector<fs::path> weights_of(const fs::path& model) {
  if (!fs::is_directory(model)) return {model};
  if (!fs::exists(model / kIndexFile)) return {model / kWeightsFile};
  std::set<fs::path> shards;
  const LargeJson index = read_large_json(model / kIndexFile);
  if (index.is_object() && index.contains("weight_map")) {
    for (const auto& shard : index["weight_map"]) {
      if (shard.is_string()) shards.insert(model / shard.get<std::string>());
    }
  }
  return {shards.begin(), shards.end()};
}

/// Looks at each file once.
class Checker {
 public:
  void files(const ExperimentConfig& config) {
    try {
      for (const auto& [role, file] : input_files(config)) look(file);
      for (const fs::path& file : weights_of(config.model.path)) look(file);
    } catch (const DataError& error) {  // a folder that is not there
      add(error.what());
    }
  }
  InputCheck result;

 private:
  void look(const fs::path& file) {
    if (!seen_.insert(file.lexically_normal()).second) return;
    ++result.files;
    const std::string fault = fault_of(file);
    if (!fault.empty()) return add(fault);
    std::error_code error;
    const std::uintmax_t bytes = fs::file_size(file, error);
    if (!error) result.bytes += bytes;
  }
  void add(const std::string& fault) {
    if (std::find(result.faults.begin(), result.faults.end(), fault) == result.faults.end())
      result.faults.push_back(fault);
  }
  std::set<fs::path> seen_;
};

}  // namespace

std::optional<fs::path> named_tokenizer(const ModelConfig& model) {
  if (model.tokenizer.empty()) return std::nullopt;
  return model.tokenizer;
}

std::vector<std::pair<std::string, fs::path>> input_files(const ExperimentConfig& config) {
  std::vector<std::pair<std::string, fs::path>> all;
  const auto known = [&](const std::string& role) {
    return std::any_of(all.begin(), all.end(), [&](const auto& one) { return one.first == role; });
  };
  for (const auto& [role, path] : files_of_model(config.model.path, "model")) all.emplace_back(role, path);
  const std::optional<fs::path> tokenizer = named_tokenizer(config.model);
  for (const auto& [role, path] : files_of_tokenizer(place_of_tokenizer(config.model.path, tokenizer), "tokenizer")) {
    // Most of those in the model's folder are counted as its files.
    if (tokenizer || !known("model/" + path.filename().string())) all.emplace_back(role, path);
  }
  const auto add = [&](const std::string& role, const std::vector<std::string>& files) {
    for (std::size_t i = 0; i < files.size(); ++i) all.emplace_back(cat(role, "[", i, "]"), files[i]);
  };
  if (config.calibration) add("calibration", config.calibration->files);
  for (const auto& [path, train] : config.trainings()) {
    for (const auto& [role, data] : train->sources(path)) add(role == "train.data" ? "train" : role, data->files);
  }
  for (std::size_t i = 0; i < config.evaluate.size(); ++i) add(cat("evaluate[", i, "]"), config.evaluate[i].files());
  return all;
}

InputCheck check_input_files(const std::vector<const ExperimentConfig*>& configs) {
  Checker checker;
  for (const ExperimentConfig* config : configs) checker.files(*config);
  return checker.result;
}

}  // namespace mla
