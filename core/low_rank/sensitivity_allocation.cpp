#include <ATen/ATen.h>

#include "core/base/error.h"
#include "core/base/registry.h"
#include "core/low_rank/greedy.h"

namespace mla {
namespace {

constexpr const char* kOutputs = "attention_output.mean_square";
constexpr const char* kGradients = "gradient:attention_output.mean_square";

/// As `energy`, with a layer's squared relative error weighed by what an error of its output does to the loss: the mean
/// square of its attention's outputs times that of the loss's gradient by them.
class Sensitivity final : public Allocator {
 public:
  struct Options {
    template <class Self, class Visitor>
    static void fields(Self&, Visitor&) {}
  };
  explicit Sensitivity(Options) {}

  bool measures() const override { return true; }
  std::vector<std::string> statistics() const override { return {kOutputs, kGradients}; }

  std::vector<std::int64_t> allocate(const std::vector<LayerShare>& layers) const override {
    std::vector<double> weights;
    for (const LayerShare& layer : layers) {
      const auto mean = [&](const char* name) { return layer.measured.at(name).mean().item<double>(); };
      weights.push_back(mean(kOutputs) * mean(kGradients));
      if (!(weights.back() >= 0 && weights.back() <= 1e300))
        throw DataError("allocate sensitivity: the gradients on calibration data are not finite");
    }
    return greedy_widths(layers, weights);
  }
};

const Registration<Allocator, Sensitivity> kSensitivityAllocation(
    "sensitivity", "as energy, with errors weighed by what they do to the loss");

}  // namespace
}  // namespace mla
