#include "core/evaluate/position_buckets.h"

#include <algorithm>

#include "core/base/error.h"

namespace mla {

std::string PositionBucket::name() const { return first == last ? cat(first) : cat(first, "-", last); }

std::vector<std::int64_t> usual_buckets(std::int64_t context, std::int64_t trained) {
  std::vector<std::int64_t> starts;
  for (std::int64_t start = 1; start < context; start *= 2) {
    if (trained > start / 2 && trained < start) starts.push_back(trained);
    starts.push_back(start);
  }
  if (trained < context && trained > starts.back()) starts.push_back(trained);
  return starts;
}

std::vector<PositionBucket> by_position(const std::vector<double>& values, const std::vector<std::int64_t>& positions,
                                        const std::vector<std::int64_t>& groups,
                                        const std::vector<std::int64_t>& starts) {
  expects(values.size() == positions.size() && !starts.empty(), "one position per value");
  std::vector<PositionBucket> buckets(starts.size());
  for (PositionBucket& bucket : buckets) bucket.groups.assign(groups.empty() ? 0 : groups.size(), 0);
  std::size_t group = 0;
  std::int64_t left = groups.empty() ? 0 : groups.front();
  for (std::size_t i = 0; i < values.size(); ++i) {
    while (!groups.empty() && left == 0) left = groups.at(++group);
    --left;
    const auto above = std::upper_bound(starts.begin(), starts.end(), positions[i]);
    if (above == starts.begin()) continue;
    PositionBucket& bucket = buckets[static_cast<std::size_t>(above - starts.begin() - 1)];
    bucket.values.push_back(values[i]);
    bucket.last = std::max(bucket.last, positions[i]);
    if (!groups.empty()) ++bucket.groups[group];
  }
  for (std::size_t i = 0; i < starts.size(); ++i) {
    buckets[i].first = starts[i];
    if (i + 1 < starts.size()) buckets[i].last = starts[i + 1] - 1;
  }
  std::erase_if(buckets, [](const PositionBucket& bucket) { return bucket.values.empty(); });
  return buckets;
}

void check_buckets(const std::string& path, const std::vector<std::int64_t>& starts, std::int64_t context) {
  for (std::size_t i = 0; i < starts.size(); ++i) {
    const std::int64_t least = i == 0 ? 1 : starts[i - 1] + 1;
    if (starts[i] < least || starts[i] >= context) {
      throw ConfigError(cat(path, "[", i, "] = ", starts[i], ": expected ascending positions from 1 to ", context - 1));
    }
  }
}

}  // namespace mla
