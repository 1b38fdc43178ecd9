#include "core/base/permutation.h"

#include "core/base/error.h"
#include "core/base/random.h"

namespace mla {
namespace {

/// Mixes one half with a round's key (the finalizer of MurmurHash3).
std::uint64_t mix(std::uint64_t half, std::uint64_t key) {
  std::uint64_t mixed = half ^ key;
  mixed = (mixed ^ (mixed >> 33)) * 0xff51afd7ed558ccd;
  mixed = (mixed ^ (mixed >> 33)) * 0xc4ceb9fe1a85ec53;
  return mixed ^ (mixed >> 33);
}

}  // namespace

RandomPermutation::RandomPermutation(std::int64_t count, std::uint64_t seed, std::string_view name)
    : count_(static_cast<std::uint64_t>(count)) {
  expects(count >= 1, "a permutation needs something to permute");
  while (half_bits_ < 31 && (std::uint64_t{1} << (2 * half_bits_)) < count_) ++half_bits_;
  expects((std::uint64_t{1} << (2 * half_bits_)) >= count_, "a permutation of more than 2^62 numbers");
  RandomStream stream(seed, name);
  for (std::uint64_t& key : keys_) key = stream.next();
}

std::uint64_t RandomPermutation::encrypt(std::uint64_t value) const {
  const std::uint64_t mask = (std::uint64_t{1} << half_bits_) - 1;
  std::uint64_t left = value >> half_bits_, right = value & mask;
  for (const std::uint64_t key : keys_) {
    const std::uint64_t next = left ^ (mix(right, key) & mask);
    left = right;
    right = next;
  }
  return left << half_bits_ | right;
}

std::int64_t RandomPermutation::operator()(std::int64_t index) const {
  auto value = static_cast<std::uint64_t>(index);
  expects(value < count_, "a place outside the permutation");
  do {
    value = encrypt(value);
  } while (value >= count_);
  return static_cast<std::int64_t>(value);
}

}  // namespace mla
