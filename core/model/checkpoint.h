// Models on disk: reading Hugging Face folders, GGUF and llama2.c files, writing Hugging Face folders.
#pragma once

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "core/base/json.h"
#include "core/model/decoder.h"
#include "core/model/safetensors.h"

namespace mla {

/// How the matrices of a GGUF file are held.
enum class HeldWeights {
  kDense,   ///< as numbers
  kPacked,  ///< blocks that products know (core/ops/block_panels.h) as they are, others as numbers
};
inline std::vector<std::pair<std::string, HeldWeights>> enum_names(HeldWeights) {
  return {{"dense", HeldWeights::kDense}, {"packed", HeldWeights::kPacked}};
}

/// How weights are held after loading.
struct LoadOptions {
  Placement placement;
  /// Other files hold what they hold: kPacked is refused for them.
  HeldWeights weights = HeldWeights::kDense;
  bool check_finite = true;  ///< refuse NaN and infinite weights
  /// False: only shapes are looked at. Blocks of a GGUF file are then not dequantized; views cost nothing anyway.
  bool values = true;
};

/// A model together with what its files say beyond the weights.
struct Checkpoint {
  Decoder decoder;
  Json config;  ///< config.json as read, or made for another file: what it says beside the spec is kept
  std::filesystem::path source;  ///< the folder or file it was read from
};

/// Reads a model: a folder with config.json and model.safetensors (or shards with an index), a GGUF file, or a llama2.c
/// `.bin` file.
/// Converted layers are rebuilt from config.json, without any decomposition.
/// Throws DataError for anything missing, left over, of another shape, or not finite, and for a folder with a LoRA
/// adapter; ConfigError where packed weights are asked for and there are none.
Checkpoint load_checkpoint(const std::filesystem::path& path, const LoadOptions& options = {});

/// Only the description: reads config.json and generation_config.json, or a file's header, not the weights.
ModelSpec load_spec(const std::filesystem::path& path, HeldWeights weights = HeldWeights::kDense);

/// Writes a folder that load_checkpoint reads; an unconverted model also loads in Hugging Face transformers. Tensors
/// keep the dtype they are held in, packed weights their codes: NAME.codes, NAME.scales, NAME.zeros. config.json is
/// written from the decoder's spec. Tokenizer files beside the source are copied; the tokenizer in a GGUF file is
/// written as such files. config.json is written last, so that a folder with one is complete.
void save_checkpoint(const Checkpoint& checkpoint, const std::filesystem::path& folder);

/// Weights of a decoder by Hugging Face names, checked against its description. `name` stands for the source in errors.
/// Where embeddings are tied but the weights hold another output matrix, that one is kept, and the decoder's spec says
/// that they are not tied.
Decoder build_decoder(const ModelSpec& spec, WeightMap weights, const std::string& name, const LoadOptions& options);

}  // namespace mla
