#include "core/model/family.h"

namespace mla {
namespace {

/// Qwen3 (dense): queries and keys are RMS-normalised per head before the rotation (QK-norm); explicit head_dim.
class Qwen3 final : public Family {
 public:
  explicit Qwen3(Options) {}
  UniformModel read(ConfigReader& config) const override {
    UniformModel model = read_common_config(config, {.max_positions = 32768, .kv_heads = 32, .head_dim = 128});
    HeadFields& heads = model.heads;
    heads.qk_norm = true;
    heads.query_bias = config.boolean_or("attention_bias", false);
    heads.key_bias = heads.value_bias = heads.output_bias = heads.query_bias;
    model.windows = read_layer_windows(config, model.layers);
    return model;
  }
  void write(const UniformModel& model, Json& config) const override {
    config["attention_bias"] = model.heads.query_bias;
    write_layer_windows(model, config);
  }
};

const Registration<Family, Qwen3> kQwen3("qwen3", "Qwen3 (dense): QK-norm before the rotation");

}  // namespace
}  // namespace mla
