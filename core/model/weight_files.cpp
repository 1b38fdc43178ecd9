#include "core/model/weight_files.h"

#include <algorithm>
#include <map>
#include <memory>
#include <regex>
#include <set>
#include <utility>

#include "core/base/error.h"
#include "core/base/json.h"
#include "core/base/log.h"

namespace mla {
namespace {

namespace fs = std::filesystem;

/// A shard lies beside the index: no path leads out of the folder.
bool is_file_name(const std::string& name) {
  constexpr std::size_t kLongest = 255;  // of every file system in use
  return !name.empty() && name.size() <= kLongest && name != "." && name != ".." &&
         name.find_first_of(std::string("/\0", 2)) == std::string::npos;
}

/// For each tensor the shard that holds it.
std::map<std::string, std::string> read_weight_map(const fs::path& index_path) {
  const LargeJson index = read_large_json(index_path);
  const std::string where = index_path.string();
  if (!index.is_object()) throw DataError(cat(where, ": expected an object, found ", kind_of(index)));
  const auto map = index.find("weight_map");
  if (map == index.end()) throw DataError(cat(where, ": weight_map is missing"));
  if (!map->is_object())
    throw DataError(cat(where, ": weight_map = ", brief(*map), ": expected an object, found ", kind_of(*map)));
  if (map->empty()) throw DataError(cat(where, ": weight_map names no tensor"));
  std::map<std::string, std::string> shards;
  for (const auto& [tensor, file] : map->items()) {
    if (!file.is_string() || !is_file_name(file.get_ref<const std::string&>())) {
      throw DataError(cat(where, ": weight_map.", brief_text(tensor), " = ", brief(file),
                          ": expected the name of a file beside the index"));
    }
    shards.emplace(tensor, file.get<std::string>());
  }
  return shards;
}

std::map<std::string, WeightMap> open_shards(const fs::path& folder, const std::map<std::string, std::string>& shards) {
  std::map<std::string, WeightMap> files;
  for (const auto& [tensor, file] : shards) {
    if (files.contains(file)) continue;
    if (!fs::exists(folder / file))
      throw DataError(cat((folder / kIndexFile).string(), ": shard ", brief_text(file), " is missing"));
    files.emplace(file, read_safetensors(folder / file));
  }
  return files;
}

/// What the shards hold beside what was taken from them: copies of what another shard was asked for, and nothing else.
void check_rest(const fs::path& folder, const std::map<std::string, std::string>& shards,
                const std::map<std::string, WeightMap>& rest) {
  for (const auto& [file, tensors] : rest) {
    for (const auto& [name, tensor] : tensors) {
      const auto known = shards.find(name);
      if (known == shards.end()) {
        throw DataError(
            cat((folder / file).string(), ": tensor ", brief_text(name), " is not in the weight_map of ", kIndexFile));
      }
      log_warning_once(cat((folder / file).string(), ": tensor ", brief_text(name), " stands in ", known->second,
                           " too, whose values are used: the weight_map of ", kIndexFile, " names that shard"));
    }
  }
}

WeightMap read_shards(const fs::path& folder) {
  const std::map<std::string, std::string> shards = read_weight_map(folder / kIndexFile);
  std::map<std::string, WeightMap> files = open_shards(folder, shards);
  WeightMap weights;
  for (const auto& [tensor, file] : shards) {
    auto node = files[file].extract(tensor);
    if (node.empty()) throw DataError(cat((folder / file).string(), ": tensor ", brief_text(tensor), " is missing"));
    weights.insert(std::move(node));
  }
  check_rest(folder, shards, files);
  return weights;
}

/// A form of weights that is not read, by a file that has it, and what makes another of it.
struct OtherForm {
  const char* beginning;
  const char* ending;
  const char* advice;
};

constexpr const char* kThroughTransformers =
    "convert it with transformers: AutoModelForCausalLM.from_pretrained(FOLDER).save_pretrained(OUT)";
constexpr OtherForm kOtherForms[] = {
    {"pytorch_model", ".bin", kThroughTransformers},
    {"pytorch_model", ".index.json", kThroughTransformers},
    {"tf_model", ".h5", kThroughTransformers},
    {"flax_model", ".msgpack", kThroughTransformers},
    {"consolidated", ".pth", "convert it with transformers' convert_llama_weights_to_hf.py"},
    {"consolidated", ".safetensors", "convert it with transformers' convert_mistral_weights_to_hf.py"},
    {"", ".gguf", "name that file itself as the model"},
    {"", ".safetensors", "rename it to model.safetensors, if it is the whole model"}};

/// The tensors of each file, in order.
std::vector<std::vector<TensorSource>> divided(const std::vector<TensorSource>& tensors, std::int64_t most) {
  std::vector<std::vector<TensorSource>> shards(1);
  std::int64_t bytes = 0;
  for (const TensorSource& tensor : tensors) {
    if (!shards.back().empty() && bytes + tensor.bytes() > most) {
      shards.emplace_back();
      bytes = 0;
    }
    bytes += tensor.bytes();
    shards.back().push_back(tensor);
  }
  return shards;
}

/// "00002", as transformers counts.
std::string five_digits(std::size_t number) {
  const std::string digits = std::to_string(number);
  return std::string(5 - std::min<std::size_t>(digits.size(), 5), '0') + digits;
}

Json index_of(const std::vector<std::vector<TensorSource>>& shards) {
  Json map = Json::object();
  std::int64_t bytes = 0;
  for (std::size_t i = 0; i < shards.size(); ++i) {
    for (const TensorSource& tensor : shards[i]) {
      map[tensor.name] = shard_name(i, shards.size());
      bytes += tensor.bytes();
    }
  }
  return {{"metadata", {{"total_size", bytes}}}, {"weight_map", map}};
}

/// Weights of an earlier model.
void remove_others(const fs::path& folder, const std::set<std::string>& written) {
  static const std::regex ours("model(-[0-9]{5,}-of-[0-9]{5,})?\\.safetensors(\\.index\\.json)?");
  std::vector<fs::path> stale;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (std::regex_match(name, ours) && !written.contains(name)) stale.push_back(entry.path());
  }
  std::error_code gone;
  for (const fs::path& file : stale) fs::remove(file, gone);
}

}  // namespace

std::string shard_name(std::size_t index, std::size_t count) {
  return count == 1 ? kWeightsFile : cat("model-", five_digits(index + 1), "-of-", five_digits(count), ".safetensors");
}

WeightMap read_weight_files(const fs::path& folder) {
  if (fs::exists(folder / kWeightsFile)) return read_safetensors(folder / kWeightsFile);
  if (fs::exists(folder / kIndexFile)) return read_shards(folder);
  const std::string neither = cat(folder.string(), ": holds neither ", kWeightsFile, " nor ", kIndexFile);
  for (const OtherForm& form : kOtherForms) {
    for (const auto& entry : fs::directory_iterator(folder)) {
      const std::string name = entry.path().filename().string();
      if (name.starts_with(form.beginning) && name.ends_with(form.ending))
        throw DataError(cat(neither, ", but ", brief_text(name), ", which is not read: ", form.advice));
    }
  }
  throw DataError(neither);
}

void write_weight_files(const fs::path& folder, const std::vector<TensorSource>& tensors, std::int64_t most,
                        const std::function<void()>& before_rename) {
  const std::vector<std::vector<TensorSource>> shards = divided(tensors, most);
  std::set<std::string> written;
  std::vector<std::unique_ptr<AtomicWriter>> files;
  for (std::size_t i = 0; i < shards.size(); ++i) {
    const std::string name = shard_name(i, shards.size());
    files.push_back(stage_safetensors(folder / name, shards[i]));
    written.insert(name);
  }
  before_rename();
  for (const auto& file : files) file->finish({});
  if (shards.size() > 1) {
    write_json(folder / kIndexFile, index_of(shards));
    written.insert(kIndexFile);
  }
  remove_others(folder, written);
}

void refuse_adapter(const fs::path& folder) {
  for (const char* name : {"adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"}) {
    if (!fs::exists(folder / name)) continue;
    throw DataError(cat(folder.string(), ": holds a LoRA adapter (", name,
                        "), which is not applied here: merge it into the model (peft: merge_and_unload(), then "
                        "save_pretrained()), or take it out of the folder"));
  }
}

}  // namespace mla
