#include "core/metrics/token_overlap.h"

#include <map>

namespace mla {

double token_f1(const std::vector<std::u32string>& prediction, const std::vector<std::u32string>& reference) {
  std::map<std::u32string, std::int64_t> left;
  for (const std::u32string& token : reference) ++left[token];
  double same = 0;
  for (const std::u32string& token : prediction) {
    const auto found = left.find(token);
    if (found == left.end() || found->second == 0) continue;
    --found->second;
    ++same;
  }
  if (same == 0) return 0;
  const double precision = same / static_cast<double>(prediction.size());
  const double recall = same / static_cast<double>(reference.size());
  return 2 * precision * recall / (precision + recall);
}

}  // namespace mla
