// Content hashes (XXH3, 128 bits) of bytes, files and JSON, as 32 hex digits; the same on every machine.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

#include "core/base/json.h"

namespace mla {

/// Hashes bytes that arrive in parts. Against accidents, not against an adversary.
class Hasher {
 public:
  Hasher();
  ~Hasher();
  Hasher(const Hasher&) = delete;
  Hasher& operator=(const Hasher&) = delete;

  void update(std::string_view bytes);
  /// 32 lower-case hex digits of all bytes so far.
  std::string digest() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

std::string hash_bytes(std::string_view bytes);

/// Hash of a file's bytes, read in blocks. Throws DataError when it cannot be read.
std::string hash_file(const std::filesystem::path& path);

/// Hash of a JSON value; the order of keys does not matter.
std::string hash_json(const Json& value);

/// A 64-bit hash of `text`, for deriving seeds.
std::uint64_t hash_to_seed(std::string_view text, std::uint64_t seed);

}  // namespace mla
