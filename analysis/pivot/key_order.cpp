#include "analysis/pivot/key_order.h"

#include <algorithm>

#include "analysis/records/dimension.h"

namespace mla {

bool before(const Json& a, const Json& b) {
  const auto rank = [](const Json& value) { return value.is_null() ? 0 : value.is_number() ? 1 : 2; };
  if (rank(a) != rank(b)) return rank(a) < rank(b);
  if (a.is_number()) return a.get<double>() < b.get<double>();
  return plain_text(a) < plain_text(b);
}

bool before(const std::vector<Json>& a, const std::vector<Json>& b) {
  return std::lexicographical_compare(a.begin(), a.end(), b.begin(), b.end(),
                                      [](const Json& x, const Json& y) { return before(x, y); });
}

}  // namespace mla
