#include "core/model/family.h"

namespace mla {
namespace {

/// The window that a Mistral config has when it does not state one.
constexpr std::int64_t kDefaultWindow = 4096;

/// Mistral: Llama with GQA and one sliding window for all layers (null: none).
class Mistral final : public Family {
 public:
  explicit Mistral(Options) {}
  Geometry read(ConfigReader& config) const override {
    Geometry geometry = read_common_geometry(config);
    const bool stated_null = config.is_null("sliding_window");
    const std::int64_t window = config.integer_or("sliding_window", stated_null ? 0 : kDefaultWindow);
    geometry.windows.assign(static_cast<std::size_t>(geometry.layers), window);
    return geometry;
  }
};

const Registration<Family, Mistral> kMistral("mistral", "Mistral: GQA with an optional sliding window");

}  // namespace
}  // namespace mla
