#include "core/base/registry.h"
#include "experiments/attribution/conversion.h"

namespace mla {
namespace {

/// The cache is stored as the config's `cache` says. Weights stay as they are: what changes is what decoding reads
/// back.
class CacheQuantization final : public AttributionStep {
 public:
  using Options = NoOptions;
  explicit CacheQuantization(Options) {}

  int place() const override { return 30; }
  bool is_stated(const CellPlan& cell) const override {
    return cell.options.cache && !cell.options.cache->storage.is_plain();
  }
  void apply(AttributionState& state) const override { state.cache = state.cell.options.cache->storage; }
};

const Registration<AttributionStep, CacheQuantization> kCacheQuantization("cache_quantization",
                                                                          "a cache stored as `cache` says");

}  // namespace
}  // namespace mla
