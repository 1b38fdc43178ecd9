#include "core/ops/decode_plan.h"

#include <algorithm>

namespace mla {
namespace {

/// Tokens of a stretch that one thread works on: at least this many, and at most kStretches stretches a sequence.
constexpr std::int64_t kStretch = 256, kStretches = 16;

std::int64_t length_of(const DecodeProblem& problem, std::int64_t batch) {
  std::int64_t length = 0;
  for (const DecodeSpan& span : problem.streams.front().rows[static_cast<std::size_t>(batch)]) length += span.tokens;
  return length;
}

}  // namespace

std::int64_t independent_groups(const DecodeProblem& problem) {
  // Keys that are expanded cross what their stream's heads do not.
  const auto apart = [&](const DecodeMemory& memory) {
    return memory.expansion.maps ? problem.streams[memory.stream].heads : memory.memories;
  };
  std::int64_t groups = problem.values.memories;
  for (const DecodeMemory& memory : problem.keys) groups = std::min(groups, apart(memory));
  const auto divides = [&](const DecodeMemory& memory) { return apart(memory) % groups == 0; };
  const bool even = std::all_of(problem.keys.begin(), problem.keys.end(), divides) && divides(problem.values);
  return even ? groups : 1;
}

std::vector<DecodeUnit> plan_units(const DecodeProblem& problem, std::int64_t batch, std::int64_t groups,
                                   std::vector<std::int64_t>& before) {
  std::vector<DecodeUnit> units;
  for (std::int64_t b = 0; b < batch; ++b) {
    const std::int64_t length = length_of(problem, b);
    const std::int64_t first = problem.window > 0 ? std::max<std::int64_t>(0, length - problem.window) : 0;
    const std::int64_t even = (length - first + kStretches - 1) / kStretches;
    const std::int64_t stretch = std::max(kStretch, (even + kDecodeTile - 1) / kDecodeTile * kDecodeTile);
    for (std::int64_t group = 0; group < groups; ++group) {
      before.push_back(std::ssize(units));
      for (std::int64_t begin = first; begin < length; begin += stretch) {
        units.push_back({b, group, begin, std::min(length, begin + stretch)});
      }
    }
  }
  before.push_back(std::ssize(units));
  return units;
}

}  // namespace mla
