#include "core/compress/report.h"

namespace mla {

double cache_ratio(const ModelSpec& before, const ModelSpec& after) {
  return static_cast<double>(cached_elements(after)) / static_cast<double>(cached_elements(before));
}

}  // namespace mla
