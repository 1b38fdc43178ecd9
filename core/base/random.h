// Reproducible random numbers: one seed, any number of named, independent streams.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace mla {

/// A stream of pseudo-random numbers (xoshiro256++, Blackman and Vigna 2021; period 2^256 - 1), started from a seed and
/// a name. Streams of different names are independent, so that drawing more from one ("data.order") does not change
/// another ("init"). The same seed and name give the same numbers on every machine: only integer operations and
/// exactly rounded floating-point ones reach the results, and no distribution of the standard library is used.
class RandomStream {
 public:
  RandomStream(std::uint64_t seed, std::string_view name);

  /// 64 random bits.
  std::uint64_t next();

  /// Uniform in [0, 1): a multiple of 2^-53.
  double uniform();

  /// Standard normal, by the ratio of uniforms (Kinderman and Monahan 1977, with the bounds of Leva 1992).
  double normal();

  /// Uniform in 0 .. count - 1, without bias; count > 0.
  std::uint64_t below(std::uint64_t count);

  /// Puts the elements of a random-access container in random order, each order equally likely.
  template <class Container>
  void shuffle(Container& items) {
    for (std::size_t left = items.size(); left > 1; --left) {
      std::swap(items[left - 1], items[static_cast<std::size_t>(below(left))]);
    }
  }

  /// Where the stream stands, as 64 hex digits; restore() continues from there. Throws DataError for other text.
  std::string state() const;
  void restore(std::string_view state);

 private:
  std::array<std::uint64_t, 4> words_{};
};

}  // namespace mla
