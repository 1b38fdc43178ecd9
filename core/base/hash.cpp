#include "core/base/hash.h"

#include <xxhash.h>

#include <fstream>
#include <vector>

#include "core/base/error.h"

namespace mla {

struct Hasher::State {
  XXH3_state_t* xxh = XXH3_createState();
  ~State() { XXH3_freeState(xxh); }
};

Hasher::Hasher() : state_(std::make_unique<State>()) { XXH3_128bits_reset(state_->xxh); }
Hasher::~Hasher() = default;

void Hasher::update(std::string_view bytes) { XXH3_128bits_update(state_->xxh, bytes.data(), bytes.size()); }

std::string Hasher::digest() const {
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(state_->xxh));
  std::string hex;
  for (const unsigned char byte : canonical.digest) {
    constexpr const char* kDigits = "0123456789abcdef";
    hex += kDigits[byte >> 4];
    hex += kDigits[byte & 15];
  }
  return hex;
}

std::string hash_bytes(std::string_view bytes) {
  Hasher hasher;
  hasher.update(bytes);
  return hasher.digest();
}

std::string hash_file(const std::filesystem::path& path) {
  constexpr std::size_t kBlock = 1 << 20;
  std::ifstream file(path, std::ios::binary);
  if (!file) throw DataError(cat(path.string(), ": cannot be read"));
  Hasher hasher;
  std::vector<char> block(kBlock);
  do {
    file.read(block.data(), static_cast<std::streamsize>(kBlock));
    hasher.update({block.data(), static_cast<std::size_t>(file.gcount())});
  } while (file);
  if (file.bad()) throw DataError(cat(path.string(), ": cannot be read to its end"));
  return hasher.digest();
}

std::string hash_json(const Json& value) {
  const LargeJson sorted = value;  // Its keys are in alphabetical order.
  return hash_bytes(sorted.dump(-1, ' ', false, LargeJson::error_handler_t::replace));
}

std::uint64_t hash_to_seed(std::string_view text, std::uint64_t seed) {
  return XXH3_64bits_withSeed(text.data(), text.size(), seed);
}

}  // namespace mla
