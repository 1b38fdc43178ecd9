#include "core/model/family.h"

namespace mla {
namespace {

/// The window that a Mistral config has when it does not state one.
constexpr std::int64_t kMistralWindow = 4096;

/// Mistral: Llama with GQA and one sliding window for all layers (null: none).
class Mistral final : public Family {
 public:
  explicit Mistral(Options) {}
  UniformModel read(ConfigReader& config) const override {
    UniformModel model = read_common_config(config, {.max_positions = 131072, .kv_heads = 8});
    const bool stated_null = config.is_null("sliding_window");
    const std::int64_t window = config.size_or("sliding_window", stated_null ? 0 : kMistralWindow, kMostPositions);
    expect_layer_types(config, model.layers, window > 0 ? "sliding_attention" : "full_attention");
    model.windows.assign(static_cast<std::size_t>(model.layers), window);
    return model;
  }
  void write(const UniformModel& model, Json& config) const override {
    config["sliding_window"] = model.windows.empty() ? Json() : Json(model.windows.front());
    config.erase("layer_types");
  }
};

const Registration<Family, Mistral> kMistral("mistral", "Mistral: GQA with an optional sliding window");

}  // namespace
}  // namespace mla
