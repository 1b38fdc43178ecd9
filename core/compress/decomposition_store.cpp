#include "core/compress/decomposition_store.h"

#include <algorithm>

namespace mla {

void DecompositionStore::announce(std::int64_t layer, std::int64_t width) {
  announced_[layer] = std::max(announced_[layer], width);
}

const Decomposition& DecompositionStore::get(const std::string& key, std::int64_t layer, std::int64_t width,
                                             const Make& make) {
  Entry& entry = entries_[key];
  if (!entry.decomposition || entry.width < width) {
    entry.width = std::max(width, announced_[layer]);
    entry.decomposition = make(entry.width);
    ++computed_;
  }
  return *entry.decomposition;
}

}  // namespace mla
