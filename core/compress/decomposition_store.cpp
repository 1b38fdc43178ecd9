#include "core/compress/decomposition_store.h"

#include <algorithm>

namespace mla {

void DecompositionStore::announce(const std::string& kind, std::int64_t layer, std::int64_t width) {
  std::int64_t& announced = announced_[{kind, layer}];
  announced = std::max(announced, width);
}

const Decomposition& DecompositionStore::get(const std::string& kind, std::int64_t layer, const std::string& selection,
                                             std::int64_t width, const Make& make) {
  Entry& entry = entries_[{kind, layer, selection}];
  if (!entry.decomposition || entry.width < width) {
    entry.width = std::max(width, announced_[{kind, layer}]);
    entry.decomposition = make(entry.width);
    ++computed_;
  }
  return *entry.decomposition;
}

}  // namespace mla
