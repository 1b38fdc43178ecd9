// Model families: how each reads its config.json into a Geometry.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

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

/// The keys of a config.json that have no effect here, each with the reason; rope_scaling's as "rope_scaling.KEY".
/// Throws DataError as read_geometry does.
std::vector<std::pair<std::string, std::string>> passed_over_keys(const Json& config, const std::string& name);

/// What a family's config means where it does not state a value.
struct FamilyDefaults {
  std::int64_t max_positions = 2048;
  std::optional<std::int64_t> kv_heads = {};  ///< absent: as many as query heads
  std::optional<std::int64_t> head_dim = {};  ///< absent: hidden / heads
};

/// What all families share: sizes, head geometry, norm, activation, tied embeddings.
Geometry read_common_geometry(ConfigReader& config, const FamilyDefaults& defaults);

/// Sliding windows of the Qwen families: only where use_sliding_window is true, and only for the layers that
/// layer_types names, or from max_window_layers on.
std::vector<std::int64_t> read_layer_windows(ConfigReader& config, std::int64_t layers);

/// For families whose layers are all alike: refuses a layer_types that names another kind than `only`.
void expect_layer_types(ConfigReader& config, std::int64_t layers, const std::string& only);

/// A config.json (classic keys) of a model that did not come with one, for example from a llama2.c file.
Json make_config(const Geometry& geometry);

}  // namespace mla
