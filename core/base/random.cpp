#include "core/base/random.h"

#include <bit>
#include <charconv>
#include <cmath>

#include "core/base/error.h"
#include "core/base/hash.h"

namespace mla {
namespace {

/// SplitMix64 (Steele, Lea and Flood 2014): turns one word into well-mixed words.
std::uint64_t split_mix(std::uint64_t& state) {
  state += 0x9e3779b97f4a7c15;
  std::uint64_t mixed = state;
  mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9;
  mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111eb;
  return mixed ^ (mixed >> 31);
}

constexpr std::size_t kDigitsPerWord = 16;

}  // namespace

RandomStream::RandomStream(std::uint64_t seed, std::string_view name) {
  std::uint64_t state = hash_to_seed(name, seed);
  for (std::uint64_t& word : words_) word = split_mix(state);
}

std::uint64_t RandomStream::next() {
  const std::uint64_t result = std::rotl(words_[0] + words_[3], 23) + words_[0];
  const std::uint64_t shifted = words_[1] << 17;
  words_[2] ^= words_[0];
  words_[3] ^= words_[1];
  words_[1] ^= words_[2];
  words_[0] ^= words_[3];
  words_[2] ^= shifted;
  words_[3] = std::rotl(words_[3], 45);
  return result;
}

double RandomStream::uniform() { return static_cast<double>(next() >> 11) * 0x1p-53; }

double RandomStream::normal() {
  // The result is one division of exactly rounded numbers. The logarithm, whose last bit differs between machines,
  // only decides in the sliver between Leva's two ellipses, where a last bit matters with probability about 1e-16.
  for (;;) {
    const double u = 1.0 - uniform();
    const double v = 1.7156 * (uniform() - 0.5);
    const double x = u - 0.449871;
    const double y = std::abs(v) + 0.386595;
    const double q = x * x + y * (0.19600 * y - 0.25472 * x);
    if (q < 0.27597) return v / u;
    if (q <= 0.27846 && v * v <= -4.0 * std::log(u) * u * u) return v / u;
  }
}

std::uint64_t RandomStream::below(std::uint64_t count) {
  expects(count > 0, "RandomStream::below needs a count above 0");
  __extension__ using Wide = unsigned __int128;
  // Lemire 2019: the high word of a product is uniform once the first 2^64 mod count low words are rejected.
  Wide product = static_cast<Wide>(next()) * count;
  if (static_cast<std::uint64_t>(product) < count) {
    const std::uint64_t rejected = (0 - count) % count;
    while (static_cast<std::uint64_t>(product) < rejected) product = static_cast<Wide>(next()) * count;
  }
  return static_cast<std::uint64_t>(product >> 64);
}

std::string RandomStream::state() const {
  std::string text;
  for (const std::uint64_t word : words_) {
    char digits[kDigitsPerWord];
    const char* end = std::to_chars(digits, digits + kDigitsPerWord, word, 16).ptr;
    const auto count = static_cast<std::size_t>(end - digits);
    text.append(kDigitsPerWord - count, '0').append(digits, count);
  }
  return text;
}

void RandomStream::restore(std::string_view state) {
  std::array<std::uint64_t, 4> words{};
  bool good = state.size() == words.size() * kDigitsPerWord;
  for (std::size_t i = 0; good && i < words.size(); ++i) {
    const char* begin = state.data() + i * kDigitsPerWord;
    const auto [end, error] = std::from_chars(begin, begin + kDigitsPerWord, words[i], 16);
    good = error == std::errc() && end == begin + kDigitsPerWord;
  }
  // xoshiro stays at zero for ever once all words are zero.
  if (!good || words == decltype(words){}) {
    throw DataError(cat("state of a random stream: expected 64 hex digits, not all 0, found '", state, "'"));
  }
  words_ = words;
}

}  // namespace mla
