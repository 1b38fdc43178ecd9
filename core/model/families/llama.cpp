#include "core/model/family.h"

namespace mla {
namespace {

/// Llama 1-3 and the models built like them (SmolLM, TinyLlama): MHA or GQA, optional biases on all projections.
class Llama final : public Family {
 public:
  explicit Llama(Options) {}
  Geometry read(ConfigReader& config) const override {
    Geometry geometry = read_common_geometry(config, {.max_positions = 2048});
    geometry.query_bias = config.boolean_or("attention_bias", false);
    geometry.key_bias = geometry.value_bias = geometry.output_bias = geometry.query_bias;
    expect_layer_types(config, geometry.layers, "full_attention");
    geometry.mlp_bias = config.boolean_or("mlp_bias", false);
    return geometry;
  }
};

const Registration<Family, Llama> kLlama("llama", "Llama: MHA or GQA, optional biases, every RoPE scaling");

}  // namespace
}  // namespace mla
