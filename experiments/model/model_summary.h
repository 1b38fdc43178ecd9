// What a model is made of: shapes, parameters by group, and what each layer caches.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <ostream>
#include <string>
#include <vector>

#include "core/base/json.h"
#include "core/model/checkpoint.h"

namespace mla {

/// One layer's attention.
struct LayerSummary {
  std::int64_t layer = 0, source_layer = 0;
  std::string attention;                     ///< registered kind
  std::int64_t pairs = 0;                    ///< rotation pairs per key
  std::optional<std::int64_t> latent_width;  ///< elements of the latent per token; absent where there is none
  std::int64_t window = 0;                   ///< sliding window in tokens; 0: none
  std::int64_t cached_elements = 0;          ///< per token
};

struct ModelSummary {
  std::string model;
  ModelSpec spec;
  std::string weights_dtype;
  ParameterCount parameters, source_parameters;  ///< as it is, and with the attention of its family in every layer
  std::vector<LayerSummary> layers;
  std::map<std::string, std::int64_t> storage;  ///< linear maps that are not dense: how they are held, and how many
  /// Keys of config.json, or of a GGUF file's metadata, that have no effect here, each with the reason.
  std::vector<std::pair<std::string, std::string>> passed_over;

  std::int64_t cached_elements() const;         ///< per token, all layers
  std::int64_t source_cached_elements() const;  ///< the same with the attention of its family in every layer
};

/// Looks at shapes only; weights are not read.
ModelSummary summarize_model(const Checkpoint& checkpoint);

/// `cache_dtype`: number type in which the cache is held, for bytes.
Json to_json(const ModelSummary& summary, at::ScalarType cache_dtype);
void print(const ModelSummary& summary, at::ScalarType cache_dtype, std::ostream& out);

}  // namespace mla
