#include "core/compress/report.h"

namespace mla {

std::int64_t CompressionPlan::cached_elements() const {
  std::int64_t total = 0;
  for (const LayerPlan& layer : layers) total += layer.cached_elements;
  return total;
}

double CompressionPlan::cache_ratio() const {
  return static_cast<double>(cached_elements()) / static_cast<double>(source_cached_elements);
}

}  // namespace mla
