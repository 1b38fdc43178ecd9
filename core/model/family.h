// Model families: how each reads its config.json into a Geometry.
#pragma once

#include <memory>
#include <string>

#include "core/base/json.h"
#include "core/base/registry.h"
#include "core/model/config_reader.h"
#include "core/model/geometry.h"

namespace mla {

/// A family is a configuration of the one Decoder. Registered under the `model_type` of its config.json.
class Family {
 public:
  static constexpr const char* kKind = "family";
  struct Options {
    template <class Self, class Visitor>
    static void fields(Self&, Visitor&) {}
  };
  virtual ~Family() = default;

  /// The geometry that the config states. Throws DataError for values the decoder cannot compute.
  virtual Geometry read(ConfigReader& config) const = 0;
};

/// Reads the geometry of a config.json object through its family, and refuses keys nobody understood.
/// `name` stands for the file in errors.
Geometry read_geometry(const Json& config, const std::string& name);

/// What all families share: sizes, head geometry, norm, activation, tied embeddings, rotary embedding.
Geometry read_common_geometry(ConfigReader& config);

/// Sliding windows of the Qwen families: only where use_sliding_window is true, and only for the layers that
/// layer_types names, or from max_window_layers on.
std::vector<std::int64_t> read_layer_windows(ConfigReader& config, std::int64_t layers);

/// A config.json (classic keys) of a model that did not come with one, for example from a llama2.c file.
Json make_config(const Geometry& geometry);

}  // namespace mla
