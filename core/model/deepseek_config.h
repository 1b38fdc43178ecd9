// config.json of model type deepseek_v3: what others serve as multi-head latent attention, read into layers of kind
// `latent`.
#pragma once

#include <cstdint>
#include <string>

#include "core/base/json.h"
#include "core/model/model_spec.h"

namespace mla {

/// Whether this config.json states such a model.
bool is_deepseek_config(const Json& config);

/// What is to be known of a file's tensors beside the model's description.
struct DeepSeekFile {
  bool latent_norm = true;      ///< a norm on the latent, and on queries of a low rank
  bool neighbours = true;       ///< pair i of the rotated dims is (2i, 2i + 1); else (i, i + r/2)
  bool bias = false;            ///< of what attention caches; and of:
  bool output_bias = false;     ///< the output projection
  std::int64_t query_rank = 0;  ///< 0: queries are made by one map
  std::int64_t rotated = 0, content = 0, value = 0, latent = 0;
};

/// Reads the class of transformers, all of whose layers are dense, and TransMLA's (LlamaMLAForCausalLM). The family is
/// llama's, which has the same feed-forward part. Throws DataError, naming `name` and the key, for mixtures of experts,
/// yarn, and whatever else changes the function and is not known here.
ModelSpec read_deepseek_config(const Json& config, const std::string& name, DeepSeekFile* file = nullptr);

}  // namespace mla
