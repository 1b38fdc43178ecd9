#include "core/model/family.h"

namespace mla {
namespace {

/// Qwen2 and Qwen2.5: Llama with biases on queries, keys and values, and optional sliding windows by layer.
class Qwen2 final : public Family {
 public:
  explicit Qwen2(Options) {}
  UniformModel read(ConfigReader& config) const override {
    UniformModel model = read_common_config(config, {.max_positions = 32768, .kv_heads = 32});
    model.heads.query_bias = model.heads.key_bias = model.heads.value_bias = true;
    model.windows = read_layer_windows(config, model.layers);
    return model;
  }
  void write(const UniformModel& model, Json& config) const override { write_layer_windows(model, config); }
};

const Registration<Family, Qwen2> kQwen2("qwen2", "Qwen2, Qwen2.5: biases on queries, keys and values");

}  // namespace
}  // namespace mla
