// The order of keys: numbers by size, then texts by letters; no value comes first.
#pragma once

#include <vector>

#include "core/base/json.h"

namespace mla {

bool before(const Json& a, const Json& b);
bool before(const std::vector<Json>& a, const std::vector<Json>& b);

struct KeyOrder {
  bool operator()(const std::vector<Json>& a, const std::vector<Json>& b) const { return before(a, b); }
};

}  // namespace mla
