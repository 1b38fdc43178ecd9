#include "analysis/records/portable_config.h"

#include <algorithm>
#include <map>

#include "core/base/error.h"
#include "core/base/hash.h"

namespace mla {
namespace {

constexpr const char* kNotOfTheResult[] = {"name",       "description",        "results",
                                           "save_model", "checkpoint_seconds", "output"};
constexpr const char* kFileKeys[] = {"path", "model", "tokenizer", "files", "items", "few_shot_items", "from"};

/// The key that a config path ends in: "evaluate[0].data.files" and "files[2]" end in files.
std::string last_key(const std::string& path) {
  const std::size_t end = path.ends_with(']') ? path.rfind('[') : path.size();
  const std::size_t dot = path.rfind('.', end == 0 ? 0 : end - 1);
  const std::size_t begin = dot == std::string::npos || dot >= end ? 0 : dot + 1;
  return path.substr(begin, end - begin);
}

std::string file_name(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  const std::size_t slash = path.rfind('/');
  return slash == std::string::npos || slash + 1 == path.size() ? path : path.substr(slash + 1);
}

void remove_folders(Json& value) {
  if (value.is_object()) {
    for (auto& [key, member] : value.items()) member = without_folders(key, member);
  } else if (value.is_array()) {
    for (Json& member : value) {
      if (member.is_structured()) remove_folders(member);
    }
  }
}

void erase_seeds(Json& value) {
  if (value.is_object()) value.erase("seed");
  for (Json& member : value) {
    if (member.is_structured()) erase_seeds(member);
  }
}

bool is_of_model(const std::string& role) { return role == "model" || role.starts_with("model/"); }

}  // namespace

Json without_folders(const std::string& path, const Json& value) {
  const std::string key = last_key(path);
  const bool names_files =
      std::any_of(std::begin(kFileKeys), std::end(kFileKeys), [&](const char* each) { return key == each; });
  if (value.is_string()) return names_files ? Json(file_name(value.get<std::string>())) : value;
  if (!value.is_structured()) return value;
  Json result = value;
  remove_folders(result);
  if (names_files && result.is_array()) {
    for (Json& file : result) {
      if (file.is_string()) file = file_name(file.get<std::string>());
    }
  }
  return result;
}

Json data_hashes(const RecordOutline& record) {
  const auto found = record.provenance.find("data_hashes");
  if (found == record.provenance.end() || !found->is_string()) return Json::object();
  const Json hashes = Json::parse(found->get_ref<const std::string&>(), nullptr, false);
  return hashes.is_object() ? hashes : Json::object();
}

void find_inputs(std::vector<LoadedRecord>& records) {
  std::vector<Json> all;
  std::map<std::string, std::map<std::string, std::size_t>> roles;  // by model: in how many records
  std::map<std::string, std::size_t> counts;
  for (const LoadedRecord& record : records) {
    all.push_back(data_hashes(record.outline));
    if (all.back().empty()) continue;
    const std::string model = model_name(record.outline.config);
    ++counts[model];
    for (const auto& [role, hash] : all.back().items()) ++roles[model][role];
  }
  for (std::size_t i = 0; i < records.size(); ++i) {
    if (all[i].empty()) continue;
    const std::string model = model_name(records[i].outline.config);
    Json counted = Json::object();
    for (const auto& [role, hash] : all[i].items()) {
      if (!is_of_model(role) || roles[model][role] == counts[model]) counted[role] = hash;
    }
    records[i].input_hashes = hash_json(counted);
  }
}

Json portable_config(const LoadedRecord& record) {
  Json config = record.outline.config;
  if (!config.is_object()) return config;
  for (const char* key : kNotOfTheResult) config.erase(key);
  remove_folders(config);
  if (!record.input_hashes.empty()) config["input_hashes"] = record.input_hashes;
  return config;
}

Json portable_config_without_seeds(const LoadedRecord& record) {
  Json config = portable_config(record);
  erase_seeds(config);
  return config;
}

}  // namespace mla
