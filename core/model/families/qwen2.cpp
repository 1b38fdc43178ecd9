#include "core/model/family.h"

namespace mla {
namespace {

/// Qwen2 and Qwen2.5: Llama with biases on queries, keys and values, and optional sliding windows by layer.
class Qwen2 final : public Family {
 public:
  explicit Qwen2(Options) {}
  Geometry read(ConfigReader& config) const override {
    Geometry geometry = read_common_geometry(config, {.max_positions = 32768, .kv_heads = 32});
    geometry.query_bias = geometry.key_bias = geometry.value_bias = true;
    geometry.windows = read_layer_windows(config, geometry.layers);
    return geometry;
  }
};

const Registration<Family, Qwen2> kQwen2("qwen2", "Qwen2, Qwen2.5: biases on queries, keys and values");

}  // namespace
}  // namespace mla
