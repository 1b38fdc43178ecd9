#include "core/base/error.h"
#include "core/low_rank/factorizer.h"

namespace mla {

LatentSlice LatentSlice::read(const Json& json, const std::string& path) {
  const auto whole = [](const Json& item) { return item.is_number_integer() && item >= 0 && item <= 1LL << 40; };
  if (!json.is_array() || json.size() != 2 || !whole(json[0]) || !whole(json[1])) {
    throw ConfigError(cat(path, ": expected [begin, width] within the latent, found ", brief(json)));
  }
  return {json[0].get<std::int64_t>(), json[1].get<std::int64_t>()};
}

}  // namespace mla
