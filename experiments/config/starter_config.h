// The first config of someone's own model and data.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "core/model/model_spec.h"

namespace mla {

/// Where a starter config's inputs stand.
struct StarterInputs {
  std::filesystem::path model, tokenizer;  ///< tokenizer: "" for the one beside the model
  std::filesystem::path calibration, train, evaluation;
};

/// Sizes that follow from a model: what is kept, and how much of it a CPU can train in minutes.
struct StarterSizes {
  std::int64_t pairs = 0;          ///< rotation pairs kept of each key
  std::vector<std::int64_t> d_kv;  ///< latent elements per KV head, widest first
  std::vector<double> cache_left;  ///< share of the source's cache for each
  std::int64_t length = 0;         ///< tokens of a row
  std::int64_t steps = 0;          ///< of training; 0: none, too slow here
  double learning_rate = 0;
  bool values_alone = false;  ///< keys are normalised (QK-norm), and stay whole
};

/// Throws ConfigError for a model whose attention is not that of its family in every layer, or too narrow to convert.
StarterSizes starter_sizes(const ModelSpec& spec, const std::string& model);

/// The config as commented YAML.
std::string starter_config(const ModelSpec& spec, const StarterInputs& inputs);

}  // namespace mla
