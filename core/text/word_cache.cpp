#include "core/text/word_cache.h"

#include <algorithm>
#include <cstring>

namespace mla {
namespace {

constexpr std::size_t kSlots = std::size_t{1} << 17;
constexpr std::size_t kMostWords = kSlots / 2;
constexpr std::size_t kLongestWord = 64;

std::uint64_t hash_of(std::string_view word) {
  constexpr std::uint64_t kFactor = 0x9E3779B97F4A7C15u;
  std::uint64_t hash = word.size() * kFactor;
  const auto mix = [&hash](const char* at, std::size_t size) {
    std::uint64_t block = 0;
    std::memcpy(&block, at, size);
    hash = (hash ^ block) * kFactor;
    hash ^= hash >> 29;
  };
  std::size_t at = 0;
  for (; at + 8 <= word.size(); at += 8) mix(word.data() + at, 8);
  mix(word.data() + at, word.size() - at);
  return hash ^ hash >> 32;
}

}  // namespace

WordCache::WordCache() : slots_(kSlots) {}

std::optional<std::span<const std::int32_t>> WordCache::find(std::string_view word) {
  last_hash_ = hash_of(word);
  last_slot_ = last_hash_ & (kSlots - 1);
  for (;; last_slot_ = (last_slot_ + 1) & (kSlots - 1)) {
    const Slot& slot = slots_[last_slot_];
    if (slot.word_size == 0) return std::nullopt;
    if (slot.hash == static_cast<std::uint32_t>(last_hash_) && slot.word_size == word.size() &&
        std::memcmp(words_.data() + slot.word_at, word.data(), word.size()) == 0) {
      return std::span(ids_.data() + slot.ids_at, slot.ids_size);
    }
  }
}

void WordCache::insert(std::string_view word, std::span<const std::int32_t> ids) {
  if (word.empty() || word.size() > kLongestWord) return;
  if (used_ == kMostWords) {
    std::fill(slots_.begin(), slots_.end(), Slot{});
    words_.clear();
    ids_.clear();
    used_ = 0;
    last_slot_ = last_hash_ & (kSlots - 1);
  }
  slots_[last_slot_] = {static_cast<std::uint32_t>(last_hash_), static_cast<std::uint32_t>(words_.size()),
                        static_cast<std::uint32_t>(ids_.size()), static_cast<std::uint16_t>(word.size()),
                        static_cast<std::uint16_t>(ids.size())};
  words_.append(word);
  ids_.insert(ids_.end(), ids.begin(), ids.end());
  ++used_;
}

}  // namespace mla
