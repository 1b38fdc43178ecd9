#include "core/model/family.h"

namespace mla {
namespace {

/// The window that a Mistral config has when it does not state one.
constexpr std::int64_t kMistralWindow = 4096;

/// Mistral: Llama with GQA and one sliding window for all layers (null: none).
class Mistral final : public Family {
 public:
  explicit Mistral(Options) {}
  Geometry read(ConfigReader& config) const override {
    Geometry geometry = read_common_geometry(config, {.max_positions = 131072, .kv_heads = 8});
    const bool stated_null = config.is_null("sliding_window");
    const std::int64_t window = config.size_or("sliding_window", stated_null ? 0 : kMistralWindow, kMostPositions);
    expect_layer_types(config, geometry.layers, window > 0 ? "sliding_attention" : "full_attention");
    geometry.windows.assign(static_cast<std::size_t>(geometry.layers), window);
    return geometry;
  }
};

const Registration<Family, Mistral> kMistral("mistral", "Mistral: GQA with an optional sliding window");

}  // namespace
}  // namespace mla
