// Model families: how each reads its config.json into the description of a model, and back.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/base/json.h"
#include "core/base/registry.h"
#include "core/model/config_reader.h"
#include "core/model/fused_weights.h"
#include "core/model/model_spec.h"

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

  /// The model that the config states. Throws DataError for values the decoder cannot compute.
  virtual UniformModel read(ConfigReader& config) const = 0;

  /// Sets the keys in which this family's configs differ from what all share (write_common_config), as far as the
  /// family knows them: what a config of this family cannot say is left out, and read back as it would be.
  virtual void write(const UniformModel& model, Json& config) const = 0;

  /// The matrices that this family's files hold as one, rows above each other; here each of them is one.
  virtual std::vector<FusedMap> fused() const { return {}; }
};

/// What the files of models of this registered family hold as one.
std::vector<FusedMap> fused_maps(const std::string& family);

/// Reads a published config.json object through its family, and refuses keys nobody understood. `name` stands for the
/// file in errors.
ModelSpec read_published_config(const Json& config, const std::string& name);

/// `config`, changed where it states another model than `spec` does, as far as its family's configs can state it: its
/// layers are those of a model with grouped-query attention of the same heads.
Json write_published_config(const ModelSpec& spec, Json config, const std::string& name);

/// The keys of a config.json that have no effect here, each with the reason; rope_scaling's as "rope_scaling.KEY".
/// Throws DataError as read_published_config does.
std::vector<std::pair<std::string, std::string>> passed_over_keys(const Json& config, const std::string& name);

/// What a family's config means where it does not state a value.
struct FamilyDefaults {
  std::int64_t max_positions = 2048;
  std::optional<std::int64_t> kv_heads = {};  ///< absent: as many as query heads
  std::optional<std::int64_t> head_dim = {};  ///< absent: hidden / heads
  double norm_epsilon = 1e-6;
  bool tied = false;
  Activation activation = Activation::kSilu;  ///< the only one of the family
};

/// What all families share: sizes, head geometry, norm, activation, tied embeddings.
UniformModel read_common_config(ConfigReader& config, const FamilyDefaults& defaults);

/// Sliding windows of the Qwen families: only where use_sliding_window is true, and only for the layers that
/// layer_types names, or from max_window_layers on.
std::vector<std::int64_t> read_layer_windows(ConfigReader& config, std::int64_t layers);

/// States them: the longest window by its layers.
void write_layer_windows(const UniformModel& model, Json& config);

/// What layer_types says of each layer: true for sliding_attention; nothing where the key is absent. Refuses other
/// types and a list of another length.
std::optional<std::vector<bool>> sliding_layers(ConfigReader& config, std::int64_t layers);

/// The windows of layers of which some slide: `otherwise(layer)` tells where layer_types is absent; sliding_window is
/// `window` where it is absent.
std::vector<std::int64_t> alternating_windows(ConfigReader& config, std::int64_t layers, std::int64_t window,
                                              const std::function<bool(std::int64_t)>& otherwise);
/// States them, every layer's type included.
void write_alternating_windows(const UniformModel& model, Json& config);

/// What the Gemma families share: norms by 1 + weight before and after each part, scaled embeddings, GeGLU, soft caps
/// of the logits (of attention `attention_cap`, of the output `logit_cap` where the config states none; 0: none),
/// queries scaled by query_pre_attn_scalar.
UniformModel read_gemma(ConfigReader& config, std::int64_t max_positions, double attention_cap, double logit_cap);
/// States it.
void write_gemma(const UniformModel& model, Json& config);

/// For families whose layers are all alike: refuses a layer_types that names another kind than `only`.
void expect_layer_types(ConfigReader& config, std::int64_t layers, const std::string& only);

/// A config.json (classic keys) of a model that did not come with one, for example from a llama2.c file.
Json make_config(const ModelSpec& spec);

}  // namespace mla
