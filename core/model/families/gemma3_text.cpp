#include "core/model/family.h"

namespace mla {
namespace {

/// Gemma 3, its text model: QK-norm per head; five layers with a sliding window, which rotate by a base of their own,
/// then one without.
class Gemma3Text final : public Family {
 public:
  explicit Gemma3Text(Options) {}
  UniformModel read(ConfigReader& config) const override {
    UniformModel model = read_gemma(config, 131072, 0, 0);
    model.heads.qk_norm = true;
    model.rope.theta = 1000000;
    model.rope.local_theta = 10000;
    const std::int64_t pattern = config.size_or("sliding_window_pattern", 6, kMostLayers);
    model.windows =
        alternating_windows(config, model.layers, 4096, [&](std::int64_t layer) { return (layer + 1) % pattern != 0; });
    for (const std::int64_t window : model.windows)
      model.ropes.push_back(window > 0 ? RopeUse::kLocal : RopeUse::kModel);
    return model;
  }
  void write(const UniformModel& model, Json& config) const override {
    write_gemma(model, config);
    config["rope_local_base_freq"] = model.model.local_rope_theta;
  }
};

const Registration<Family, Gemma3Text> kGemma3Text("gemma3_text",
                                                   "Gemma 3, text: QK-norm, windows with a rotary base of their own");

}  // namespace
}  // namespace mla
