#include "core/model/family.h"

namespace mla {
namespace {

/// Llama 1-3 and the models built like them (SmolLM, TinyLlama): MHA or GQA, optional biases on all projections.
class Llama final : public Family {
 public:
  explicit Llama(Options) {}
  UniformModel read(ConfigReader& config) const override {
    UniformModel model = read_common_config(config, {.max_positions = 2048});
    HeadFields& heads = model.heads;
    heads.query_bias = config.boolean_or("attention_bias", false);
    heads.key_bias = heads.value_bias = heads.output_bias = heads.query_bias;
    expect_layer_types(config, model.layers, "full_attention");
    model.feed_forward.bias = config.boolean_or("mlp_bias", false);
    return model;
  }
  void write(const UniformModel& model, Json& config) const override {
    config["attention_bias"] = model.heads.query_bias;
    config["mlp_bias"] = model.feed_forward.bias;
    config.erase("layer_types");
  }
};

const Registration<Family, Llama> kLlama("llama", "Llama: MHA or GQA, optional biases, every RoPE scaling");

}  // namespace
}  // namespace mla
