#include "core/model/family.h"

namespace mla {
namespace {

/// Gemma 2: every second layer has a sliding window, the first among them; logits of attention and of the output are
/// capped.
class Gemma2 final : public Family {
 public:
  explicit Gemma2(Options) {}
  UniformModel read(ConfigReader& config) const override {
    UniformModel model = read_gemma(config, 8192, 50, 30);
    model.windows = alternating_windows(config, model.layers, 4096, [](std::int64_t layer) { return layer % 2 == 0; });
    return model;
  }
  void write(const UniformModel& model, Json& config) const override { write_gemma(model, config); }
};

const Registration<Family, Gemma2> kGemma2("gemma2", "Gemma 2: norms before and after, soft caps, alternating windows");

}  // namespace
}  // namespace mla
