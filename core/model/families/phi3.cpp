#include "core/model/family.h"

namespace mla {
namespace {

/// Phi-3 (and Phi-3.5, Phi-4 without partial rotation): Llama with one sliding window for all layers (null: none) and
/// LongRoPE; files hold queries, keys and values as one matrix, gate and up as another.
class Phi3 final : public Family {
 public:
  explicit Phi3(Options) {}
  UniformModel read(ConfigReader& config) const override {
    UniformModel model = read_common_config(config, {.max_positions = kPositions, .norm_epsilon = 1e-5});
    model.rope.original_positions = kPositions;
    model.rope.yarn_is_longrope = true;
    const std::int64_t window = config.size_or("sliding_window", 0, kMostPositions);
    if (window > 0) model.windows.assign(static_cast<std::size_t>(model.layers), window);
    return model;
  }
  void write(const UniformModel& model, Json& config) const override {
    config["sliding_window"] = model.windows.empty() ? Json() : Json(model.windows.front());
    const RotaryScaling& scaling = model.model.rope_scaling;
    if (scaling.type != "default") config["original_max_position_embeddings"] = scaling.original_positions;
  }
  std::vector<FusedMap> fused() const override {
    return {{"self_attn.qkv_proj", {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"}},
            {"mlp.gate_up_proj", {"mlp.gate_proj", "mlp.up_proj"}}};
  }

 private:
  static constexpr std::int64_t kPositions = 4096;
};

const Registration<Family, Phi3> kPhi3("phi3", "Phi-3: fused projections, an optional sliding window, LongRoPE");

}  // namespace
}  // namespace mla
