// Damaging inputs: bytes, numbers, lines and JSON values, the same way for the same seed.
#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "core/base/json.h"

namespace mla::fuzz {

/// Makes damaged copies of inputs.
class Mutator {
 public:
  /// `words` are put into inputs now and then.
  explicit Mutator(std::uint64_t seed, std::vector<std::string> words = {}) : random_(seed), words_(std::move(words)) {}

  /// A copy with one to four changes; pieces of `other` may get into it.
  std::string mutate(const std::string& input, const std::string& other);

 private:
  std::size_t below(std::size_t bound) { return bound == 0 ? 0 : random_() % bound; }
  void change_once(std::string& input, const std::string& other);
  void change_bytes(std::string& input, const std::string& other);
  void write_number(std::string& input);
  void change_digits(std::string& input);
  bool change_json(std::string& input);
  void change_value(Json& value);
  Json odd_value();

  std::mt19937_64 random_;
  std::vector<std::string> words_;
};

}  // namespace mla::fuzz
