#include "core/model/family.h"

namespace mla {
namespace {

/// Qwen3 (dense): queries and keys are RMS-normalised per head before the rotation (QK-norm); explicit head_dim.
class Qwen3 final : public Family {
 public:
  explicit Qwen3(Options) {}
  Geometry read(ConfigReader& config) const override {
    Geometry geometry = read_common_geometry(config, {.max_positions = 32768, .kv_heads = 32, .head_dim = 128});
    geometry.qk_norm = true;
    geometry.query_bias = config.boolean_or("attention_bias", false);
    geometry.key_bias = geometry.value_bias = geometry.output_bias = geometry.query_bias;
    geometry.windows = read_layer_windows(config, geometry.layers);
    return geometry;
  }
};

const Registration<Family, Qwen3> kQwen3("qwen3", "Qwen3 (dense): QK-norm before the rotation");

}  // namespace
}  // namespace mla
