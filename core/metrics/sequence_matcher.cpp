#include "core/metrics/sequence_matcher.h"

#include <algorithm>
#include <cmath>
#include <unordered_map>
#include <vector>

namespace mla {
namespace {

constexpr std::size_t kLengthWithPopular = 200;

/// A part of each string, as half-open ranges.
struct Parts {
  std::size_t a_begin, a_end, b_begin, b_end;
};

struct Block {
  std::size_t a, b, size;
};

class Matcher {
 public:
  Matcher(const std::u32string& a, const std::u32string& b) : a_(a), b_(b) {
    for (std::size_t j = 0; j < b.size(); ++j) places_[b[j]].push_back(j);
    if (b.size() < kLengthWithPopular) return;
    const std::size_t most = b.size() / 100 + 1;
    std::erase_if(places_, [most](const auto& entry) { return entry.second.size() > most; });
  }

  std::size_t matching_characters() const {
    std::size_t sum = 0;
    std::vector<Parts> left = {{0, a_.size(), 0, b_.size()}};
    while (!left.empty()) {
      const Parts parts = left.back();
      left.pop_back();
      const Block block = longest_block(parts);
      if (block.size == 0) continue;
      sum += block.size;
      left.push_back({parts.a_begin, block.a, parts.b_begin, block.b});
      left.push_back({block.a + block.size, parts.a_end, block.b + block.size, parts.b_end});
    }
    return sum;
  }

 private:
  Block longest_block(const Parts& parts) const {
    Block best{parts.a_begin, parts.b_begin, 0};
    // lengths[j + 1]: of the block that ends at the last character of a looked at and at character j of b.
    std::vector<std::size_t> lengths(b_.size() + 1), next(b_.size() + 1);
    for (std::size_t i = parts.a_begin; i < parts.a_end; ++i) {
      std::fill(next.begin(), next.end(), 0);
      if (const auto found = places_.find(a_[i]); found != places_.end()) {
        for (const std::size_t j : found->second) {
          if (j < parts.b_begin || j >= parts.b_end) continue;
          const std::size_t size = next[j + 1] = lengths[j] + 1;
          if (size > best.size) best = {i + 1 - size, j + 1 - size, size};
        }
      }
      std::swap(lengths, next);
    }
    return extended(best, parts);
  }

  /// Popular characters begin no block, but belong to one beside them.
  Block extended(Block block, const Parts& parts) const {
    while (block.a > parts.a_begin && block.b > parts.b_begin && a_[block.a - 1] == b_[block.b - 1]) {
      --block.a, --block.b, ++block.size;
    }
    while (block.a + block.size < parts.a_end && block.b + block.size < parts.b_end &&
           a_[block.a + block.size] == b_[block.b + block.size]) {
      ++block.size;
    }
    return block;
  }

  const std::u32string& a_;
  const std::u32string& b_;
  std::unordered_map<char32_t, std::vector<std::size_t>> places_;  ///< in b, in ascending order
};

}  // namespace

double matching_ratio(const std::u32string& a, const std::u32string& b) {
  if (a.empty() && b.empty()) return 1;
  return 2.0 * static_cast<double>(Matcher(a, b).matching_characters()) / static_cast<double>(a.size() + b.size());
}

int fuzzy_percent(const std::u32string& a, const std::u32string& b) {
  if (a == b) return 100;
  if (a.empty() || b.empty()) return 0;
  return static_cast<int>(std::nearbyint(100 * matching_ratio(a, b)));
}

}  // namespace mla
