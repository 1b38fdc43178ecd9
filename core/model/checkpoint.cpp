#include "core/model/checkpoint.h"

#include <ATen/ATen.h>

#include <set>

#include "core/base/error.h"
#include "core/base/log.h"
#include "core/gguf/file.h"
#include "core/model/adapter_files.h"
#include "core/model/family.h"
#include "core/model/gguf_config.h"
#include "core/model/gguf_weights.h"
#include "core/model/llama2c.h"
#include "core/model/model_config.h"
#include "core/model/weight_files.h"
#include "core/model/weight_names.h"
#include "core/text/gguf_tokenizer.h"

namespace mla {
namespace {

namespace fs = std::filesystem;

constexpr const char* kConfigFile = "config.json";
constexpr const char* kGenerationFile = "generation_config.json";

/// What is said of a model without its weights.
struct GgufModel {
  std::shared_ptr<const gguf::File> file;
  Json config;
  ModelSpec spec;
};
GgufModel open_gguf(const fs::path& path, HeldWeights weights) {
  auto file = std::make_shared<const gguf::File>(path);
  Json config = gguf_config(*file);
  ModelSpec spec = read_model_config(config, path.string());
  if (weights == HeldWeights::kPacked) spec = with_gguf_storage(*file, std::move(spec));
  return {std::move(file), std::move(config), std::move(spec)};
}

void expect_as_held(const fs::path& path, HeldWeights weights) {
  if (weights == HeldWeights::kDense) return;
  throw ConfigError(cat("weights = packed: ", path.string(),
                        " is no GGUF file, whose blocks that keeps; the pass quantize_weights packs others"));
}

Checkpoint load_gguf(const fs::path& path, const LoadOptions& options) {
  const GgufModel model = open_gguf(path, options.weights);
  WeightMap weights = read_gguf_weights(model.file, model.spec, options.values);
  return {build_decoder(model.spec, std::move(weights), path.string(), options), model.config, path};
}

bool is_llama2c(const fs::path& path) { return fs::is_regular_file(path) && path.extension() == ".bin"; }

void expect_model_folder(const fs::path& path) {
  if (!fs::exists(path)) throw DataError(cat(path.string(), ": no such file or folder"));
  if (!fs::is_directory(path))
    throw DataError(cat(path.string(), ": expected a model folder, a GGUF file or a llama2.c .bin file"));
  refuse_adapter(path);
  if (!fs::exists(path / kConfigFile)) throw DataError(cat(path.string(), ": holds no config.json"));
}

/// The ids that end a text, where generation_config.json names some: they go before those of config.json.
void read_generation_config(const fs::path& folder, ModelSpec& spec) {
  const fs::path path = folder / kGenerationFile;
  if (!fs::exists(path)) return;
  const Json config = read_json(path);
  const std::vector<std::int64_t> ends = ConfigReader(config, path.string()).tokens("eos_token_id");
  if (!ends.empty()) spec.ends = ends;
}

Json read_config(const fs::path& folder) {
  const Json config = read_json(folder / kConfigFile);
  if (!config.is_object())
    throw DataError(cat((folder / kConfigFile).string(), ": expected an object, found ", kind_of(config)));
  return config;
}

ModelSpec spec_of(const fs::path& folder, const Json& config, const StoredDimensions& stored) {
  ModelSpec spec = read_model_config(config, (folder / kConfigFile).string(), stored);
  read_generation_config(folder, spec);
  return spec;
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

fs::path folder_of(const fs::path& source) { return fs::is_directory(source) ? source : source.parent_path(); }

bool is_same_folder(const fs::path& a, const fs::path& b) { return !a.empty() && fs::equivalent(a, b); }

/// A tokenizer that is not read is no reason to lose the model.
void write_tokenizer_inside(const fs::path& source, const fs::path& folder) {
  try {
    write_gguf_tokenizer(source, folder);
  } catch (const DataError& error) {
    log_warning_once(cat(folder.string(), ": gets no tokenizer: ", error.what()));
  }
}

void copy_companions(const fs::path& source, const fs::path& folder) {
  if (gguf::is_gguf(source)) return write_tokenizer_inside(source, folder);
  const fs::path from = folder_of(source);
  if (from.empty() || is_same_folder(from, folder)) return;
  for (const auto& entry : fs::directory_iterator(from)) {
    if (entry.is_regular_file() && is_companion(entry.path())) {
      fs::copy_file(entry.path(), folder / entry.path().filename(), fs::copy_options::overwrite_existing);
    }
  }
}

}  // namespace

Checkpoint load_checkpoint(const fs::path& path, const LoadOptions& options) {
  if (gguf::is_gguf(path)) return load_gguf(path, options);
  expect_as_held(path, options.weights);
  if (is_llama2c(path)) {
    const ModelSpec spec = read_llama2c_spec(path);
    return {build_decoder(spec, read_llama2c_weights(path), path.string(), options), make_config(spec), path};
  }
  expect_model_folder(path);
  const Json config = read_config(path);
  spec_of(path, config, {});  // what is wrong in it is told before anything about weights
  WeightMap weights = with_usual_names(read_weight_files(path), path.string());
  const ModelSpec spec = spec_of(path, config, [&](const std::string& name) {
    const auto found = weights.find(name);
    return found == weights.end() ? std::int64_t{0} : found->second.dim();
  });
  split_fused(spec, fused_maps(spec.family), weights, path.string());
  Checkpoint checkpoint{build_decoder(spec, std::move(weights), path.string(), options), config, path};
  if (spec.tied_embeddings && !checkpoint.decoder.spec().tied_embeddings) {
    checkpoint.config = write_model_config(checkpoint.decoder.spec(), config, (path / kConfigFile).string());
    log_warning_once(cat(path.string(),
                         ": config.json ties the output matrix to the embedding, but the weights hold "
                         "another lm_head.weight: that one is used, as in transformers"));
  }
  return checkpoint;
}

ModelSpec load_spec(const fs::path& path, HeldWeights weights) {
  if (gguf::is_gguf(path)) return open_gguf(path, weights).spec;
  expect_as_held(path, weights);
  if (is_llama2c(path)) return read_llama2c_spec(path);
  expect_model_folder(path);
  return spec_of(path, read_config(path), {});
}

void save_checkpoint(const Checkpoint& checkpoint, const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) throw DataError(cat(folder.string(), ": cannot be made: ", error.message()));
  std::vector<std::pair<std::string, at::Tensor>> tensors;
  // Visiting hands out references for replacement; saving replaces nothing.
  const_cast<Decoder&>(checkpoint.decoder).visit_stored([&](const std::string& name, at::Tensor& tensor) {
    tensors.emplace_back(name, tensor);
  });
  const ModelSpec& spec = checkpoint.decoder.spec();
  const Json config = write_model_config(spec, checkpoint.config, checkpoint.source.string());
  if (config.at("model_type") == spec.family) join_fused(spec, fused_maps(spec.family), tensors);
  // A config of an earlier model must never stand beside new weights.
  const bool elsewhere = !is_same_folder(folder_of(checkpoint.source), folder);
  write_safetensors(folder / kWeightsFile, tensors, [&] {
    fs::remove(folder / kConfigFile, error);
    if (elsewhere) fs::remove(folder / kGenerationFile, error);
    fs::remove(folder / kIndexFile, error);
  });
  copy_companions(checkpoint.source, folder);
  write_adapter_files(checkpoint.decoder, folder, checkpoint.source.string());
  write_json(folder / kConfigFile, config);
}

}  // namespace mla
