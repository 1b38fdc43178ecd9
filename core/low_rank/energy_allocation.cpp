#include "core/base/registry.h"
#include "core/low_rank/greedy.h"

namespace mla {
namespace {

/// The smallest sum of squared relative errors, element by element.
class Energy final : public Allocator {
 public:
  struct Options {
    template <class Self, class Visitor>
    static void fields(Self&, Visitor&) {}
  };
  explicit Energy(Options) {}

  bool measures() const override { return true; }

  std::vector<std::int64_t> allocate(const std::vector<LayerShare>& layers) const override {
    return greedy_widths(layers, std::vector<double>(layers.size(), 1.0));
  }
};

const Registration<Allocator, Energy> kEnergyAllocation(
    "energy", "the next element to the layer whose relative error falls most by it");

}  // namespace
}  // namespace mla
