#include "core/model/checkpoint.h"

#include <ATen/ATen.h>

#include <set>

#include "core/base/error.h"
#include "core/model/family.h"
#include "core/model/latent_config.h"
#include "core/model/llama2c.h"

namespace mla {
namespace {

namespace fs = std::filesystem;

constexpr const char* kConfigFile = "config.json";
constexpr const char* kWeightsFile = "model.safetensors";
constexpr const char* kIndexFile = "model.safetensors.index.json";

bool is_llama2c(const fs::path& path) { return fs::is_regular_file(path) && path.extension() == ".bin"; }

void expect_model_folder(const fs::path& path) {
  if (!fs::exists(path)) throw DataError(cat(path.string(), ": no such file or folder"));
  if (!fs::is_directory(path)) throw DataError(cat(path.string(), ": expected a model folder or a llama2.c .bin file"));
  if (!fs::exists(path / kConfigFile)) throw DataError(cat(path.string(), ": holds no config.json"));
}

WeightMap read_shards(const fs::path& folder) {
  const fs::path index_path = folder / kIndexFile;
  const Json index = read_json(index_path);
  const Json map = index.is_object() ? index.value("weight_map", Json()) : Json();
  if (!map.is_object()) throw DataError(cat(index_path.string(), ": weight_map is missing"));
  std::set<std::string> files;
  for (const auto& [tensor, file] : map.items()) {
    if (!file.is_string()) throw DataError(cat(index_path.string(), ": weight_map.", tensor, ": expected a file name"));
    files.insert(file.get<std::string>());
  }
  WeightMap weights;
  for (const std::string& file : files) {
    if (!fs::exists(folder / file)) throw DataError(cat(index_path.string(), ": shard ", file, " is missing"));
    weights.merge(read_safetensors(folder / file));
  }
  for (const auto& [tensor, file] : map.items()) {
    if (!weights.contains(tensor))
      throw DataError(cat((folder / file.get<std::string>()).string(), ": tensor ", tensor, " is missing"));
  }
  return weights;
}

WeightMap read_weights(const fs::path& folder) {
  if (fs::exists(folder / kWeightsFile)) return read_safetensors(folder / kWeightsFile);
  if (fs::exists(folder / kIndexFile)) return read_shards(folder);
  throw DataError(cat(folder.string(), ": holds neither ", kWeightsFile, " nor ", kIndexFile));
}

/// Tokenizer and generation files that belong to a model, whatever its weights.
bool is_companion(const fs::path& file) {
  static const std::set<std::string> names = {"tokenizer.json",    "tokenizer_config.json",  "special_tokens_map.json",
                                              "added_tokens.json", "generation_config.json", "vocab.json",
                                              "merges.txt",        "chat_template.jinja"};
  const std::string name = file.filename().string();
  return names.contains(name) || name.ends_with(".tiktoken") ||
         (name.starts_with("tok") && (name.ends_with(".model") || name.ends_with(".bin")));
}

void copy_companions(const fs::path& source, const fs::path& folder) {
  const fs::path from = fs::is_directory(source) ? source : source.parent_path();
  if (from.empty() || fs::equivalent(from, folder)) return;
  for (const auto& entry : fs::directory_iterator(from)) {
    if (entry.is_regular_file() && is_companion(entry.path())) {
      fs::copy_file(entry.path(), folder / entry.path().filename(), fs::copy_options::overwrite_existing);
    }
  }
}

}  // namespace

Checkpoint load_checkpoint(const fs::path& path, const LoadOptions& options) {
  if (is_llama2c(path)) {
    const Geometry geometry = read_llama2c_geometry(path);
    return {build_decoder(geometry, Json::object(), read_llama2c_weights(path), path.string(), options),
            make_config(geometry), path};
  }
  expect_model_folder(path);
  const Json config = read_json(path / kConfigFile);
  const Geometry geometry = load_geometry(path);
  return {build_decoder(geometry, config, read_weights(path), path.string(), options), config, path};
}

Geometry load_geometry(const fs::path& path) {
  if (is_llama2c(path)) return read_llama2c_geometry(path);
  expect_model_folder(path);
  const Json config = read_json(path / kConfigFile);
  if (!config.is_object())
    throw DataError(cat((path / kConfigFile).string(), ": expected an object, found ", kind_of(config)));
  return read_geometry(without_latent_config(config), (path / kConfigFile).string());
}

void save_checkpoint(const Checkpoint& checkpoint, const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) throw DataError(cat(folder.string(), ": cannot be made: ", error.message()));
  std::vector<std::pair<std::string, at::Tensor>> tensors;
  // Visiting hands out references for replacement; saving replaces nothing.
  const_cast<Decoder&>(checkpoint.decoder).visit_parameters([&](const std::string& name, at::Tensor& tensor) {
    tensors.emplace_back(name, tensor);
  });
  // A config of an earlier model must never stand beside new weights.
  write_safetensors(folder / kWeightsFile, tensors, [&] {
    fs::remove(folder / kConfigFile, error);
    fs::remove(folder / kIndexFile, error);
  });
  copy_companions(checkpoint.source, folder);
  write_json(folder / kConfigFile, with_latent_config(checkpoint.config, checkpoint.decoder));
}

}  // namespace mla
