#include "core/base/registry.h"
#include "core/low_rank/allocator.h"

namespace mla {
namespace {

/// Each layer has the width that its options state.
class Uniform final : public Allocator {
 public:
  struct Options {
    template <class Self, class Visitor>
    static void fields(Self&, Visitor&) {}
  };
  explicit Uniform(Options) {}

  bool measures() const override { return false; }
  std::vector<std::int64_t> allocate(const std::vector<LayerShare>& layers) const override {
    std::vector<std::int64_t> widths;
    for (const LayerShare& layer : layers) widths.push_back(layer.stated);
    return widths;
  }
};

const Registration<Allocator, Uniform> kUniformAllocation("uniform", "each layer has the width that is stated for it");

}  // namespace
}  // namespace mla
