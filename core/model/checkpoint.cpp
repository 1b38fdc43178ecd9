#include "core/model/checkpoint.h"

#include <ATen/ATen.h>

#include "core/base/error.h"
#include "core/base/log.h"
#include "core/gguf/file.h"
#include "core/model/adapter_files.h"
#include "core/model/companions.h"
#include "core/model/deepseek_config.h"
#include "core/model/deepseek_weights.h"
#include "core/model/family.h"
#include "core/model/gguf_config.h"
#include "core/model/gguf_weights.h"
#include "core/model/llama2c.h"
#include "core/model/mha2mla_config.h"
#include "core/model/mha2mla_weights.h"
#include "core/model/model_config.h"
#include "core/model/save_in_shards.h"
#include "core/model/weight_files.h"
#include "core/model/weight_names.h"

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
  if (fs::exists(path / kConfigFile)) return;
  for (const auto& entry : fs::directory_iterator(path)) {
    if (entry.path().extension() == ".gguf")
      throw DataError(cat(path.string(), ": holds no config.json; its GGUF file is a model: ", entry.path().string()));
  }
  throw DataError(cat(path.string(),
                      ": holds no config.json; a model is a Hugging Face folder with one, a GGUF file or ",
                      "a llama2.c .bin file"));
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
  const std::string name = (folder / kConfigFile).string();
  ModelSpec spec = is_deepseek_config(config)                   ? read_deepseek_config(config, name)
                   : mha2mla_form(config) != Mha2MlaForm::kNone ? read_mha2mla_config(config, folder)
                                                                : read_model_config(config, name, stored);
  read_generation_config(folder, spec);
  return spec;
}

bool is_others_conversion(const Json& config) {
  return is_deepseek_config(config) || mha2mla_form(config) != Mha2MlaForm::kNone;
}

/// Its layers are ones of kind `latent`; what is saved of it later is a converted model of ours.
Checkpoint load_others_conversion(const fs::path& path, const Json& config, WeightMap weights,
                                  const LoadOptions& options) {
  const ModelSpec spec = spec_of(path, config, {});
  if (is_deepseek_config(config)) {
    DeepSeekFile file;
    read_deepseek_config(config, (path / kConfigFile).string(), &file);
    weights = deepseek_weights(std::move(weights), spec, file, path.string());
  } else {
    weights = mha2mla_weights(std::move(weights), spec, config, path.string());
  }
  Decoder decoder = build_decoder(spec, std::move(weights), path.string(), options);
  Json own = make_config(decoder.spec());
  return {std::move(decoder), std::move(own), path};
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
  if (is_others_conversion(config)) return load_others_conversion(path, config, std::move(weights), options);
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
  save_checkpoint(checkpoint, folder, kShardBytes);
}

void save_checkpoint(const Checkpoint& checkpoint, const fs::path& folder, std::int64_t shard_bytes) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) throw DataError(cat(folder.string(), ": cannot be made: ", error.message()));
  std::vector<TensorSource> tensors;
  // Visiting hands out references for replacement; saving replaces nothing.
  const_cast<Decoder&>(checkpoint.decoder).visit_stored([&](const std::string& name, at::Tensor& tensor) {
    tensors.push_back(source_of(name, tensor));
  });
  const ModelSpec& spec = checkpoint.decoder.spec();
  const Json config = write_model_config(spec, checkpoint.config, checkpoint.source.string());
  if (config.at("model_type") == spec.family) join_fused(spec, fused_maps(spec.family), tensors);
  // A config of an earlier model must never stand beside new weights.
  const bool elsewhere = !is_same_folder(folder_of_model(checkpoint.source), folder);
  write_weight_files(folder, tensors, shard_bytes, [&] {
    fs::remove(folder / kConfigFile, error);
    if (elsewhere) fs::remove(folder / kGenerationFile, error);
  });
  copy_companions(checkpoint.source, folder);
  write_adapter_files(checkpoint.decoder, folder, checkpoint.source.string());
  write_json(folder / kConfigFile, config);
}

}  // namespace mla
