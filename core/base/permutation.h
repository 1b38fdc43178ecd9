// A random order of 0 … n - 1 that is computed place by place, never stored.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace mla {

/// A pseudo-random bijection of 0 … count - 1, decided by seed and name, in constant memory: a Feistel network over the
/// smallest domain of 4^k >= count numbers, walked until it lands inside (Black and Rogaway 2002, "Ciphers with
/// arbitrary finite domains"), which takes less than four rounds of it on average. Only integer operations: the same
/// order on every machine.
class RandomPermutation {
 public:
  /// `count` >= 1.
  RandomPermutation(std::int64_t count, std::uint64_t seed, std::string_view name);

  /// What stands at place `index` of the order; 0 <= index < count.
  std::int64_t operator()(std::int64_t index) const;

 private:
  std::uint64_t encrypt(std::uint64_t value) const;

  std::uint64_t count_;
  int half_bits_ = 1;
  std::array<std::uint64_t, 8> keys_{};
};

}  // namespace mla
