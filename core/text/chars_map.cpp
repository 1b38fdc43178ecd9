#include "core/text/chars_map.h"

#include <unicode/brkiter.h>
#include <unicode/locid.h>

#include <cstring>

#include "core/base/error.h"
#include "core/text/utf8.h"

namespace mla {
namespace {

constexpr std::size_t kLongestMapped = 5;  // Bytes of a grapheme that is looked up as a whole.

/// A double array (Darts): each unit holds a label, an offset to its children and whether it has a value.
class DoubleArray {
 public:
  DoubleArray() = default;
  explicit DoubleArray(std::string_view bytes) : units_(bytes.size() / sizeof(std::uint32_t)) {
    std::memcpy(units_.data(), bytes.data(), units_.size() * sizeof(std::uint32_t));
  }

  /// The value of the shortest key that `text` begins with.
  std::optional<std::size_t> shortest_prefix(std::string_view text) const {
    std::size_t at = 0;
    if (!follow(at)) return std::nullopt;
    for (const char character : text) {
      const auto byte = static_cast<unsigned char>(character);
      at ^= byte;
      if (byte == 0 || at >= units_.size()) return std::nullopt;
      const std::uint32_t unit = units_[at];
      if ((unit & (0x80000000u | 0xFFu)) != byte) return std::nullopt;
      const bool has_value = (unit >> 8 & 1) != 0;
      if (!follow(at)) return std::nullopt;
      if (has_value) return units_[at] & 0x7FFFFFFFu;
    }
    return std::nullopt;
  }

 private:
  /// From a unit to where its children lie; false when that is outside of a damaged array.
  bool follow(std::size_t& at) const {
    if (at >= units_.size()) return false;
    const std::uint32_t unit = units_[at];
    at ^= static_cast<std::size_t>(unit >> 10) << ((unit & (1u << 9)) >> 6);
    return at < units_.size();
  }

  std::vector<std::uint32_t> units_;
};

class PrecompiledNormalizer : public Normalizer {
 public:
  PrecompiledNormalizer(const std::string& bytes, const std::string& where) {
    std::uint32_t size = 0;
    if (bytes.size() < sizeof size) throw DataError(cat(where, ": precompiled_charsmap ends in its header"));
    std::memcpy(&size, bytes.data(), sizeof size);
    if (size % sizeof(std::uint32_t) != 0 || size > bytes.size() - sizeof size) {
      throw DataError(cat(where, ": precompiled_charsmap: a trie of ", size, " bytes in a map of ", bytes.size()));
    }
    trie_ = DoubleArray(std::string_view(bytes).substr(sizeof size, size));
    results_ = bytes.substr(sizeof size + size);
    if (valid_utf8_prefix(results_) != results_.size()) {
      throw DataError(cat(where, ": precompiled_charsmap: its results are not UTF-8"));
    }
    UErrorCode error = U_ZERO_ERROR;
    graphemes_.reset(icu::BreakIterator::createCharacterInstance(icu::Locale::getRoot(), error));
    expects(U_SUCCESS(error) != 0, "ICU lacks its rules for graphemes");
  }

  std::string apply(std::string text) const override {
    std::string out;
    out.reserve(text.size());
    for_each_grapheme(text, [&](std::string_view grapheme) {
      if (grapheme.size() <= kLongestMapped) {
        if (const auto mapped = lookup(grapheme)) {
          out += *mapped;
          return;
        }
      }
      for (std::size_t at = 0; at < grapheme.size();) {
        const std::string_view character = grapheme.substr(at, utf8_size(grapheme[at]));
        out += lookup(character).value_or(character);
        at += character.size();
      }
    });
    return out;
  }

 private:
  std::optional<std::string_view> lookup(std::string_view text) const {
    const auto begin = trie_.shortest_prefix(text);
    if (!begin || *begin >= results_.size()) return std::nullopt;
    // A value in the middle of a character comes from a damaged map.
    if ((static_cast<unsigned char>(results_[*begin]) & 0xC0) == 0x80) return std::nullopt;
    const std::string_view rest = std::string_view(results_).substr(*begin);
    return rest.substr(0, rest.find('\0'));
  }

  template <class Visit>
  void for_each_grapheme(const std::string& text, Visit visit) const {
    const icu::UnicodeString wide = icu::UnicodeString::fromUTF8(text);
    const std::unique_ptr<icu::BreakIterator> breaks(graphemes_->clone());
    breaks->setText(wide);
    std::size_t done = 0;
    std::int32_t begin = breaks->first();
    for (std::int32_t end = breaks->next(); end != icu::BreakIterator::DONE; begin = end, end = breaks->next()) {
      std::size_t size = 0;
      for (std::int32_t at = begin; at < end; at = wide.moveIndex32(at, 1)) size += utf8_size(text[done + size]);
      visit(std::string_view(text).substr(done, size));
      done += size;
    }
  }

  DoubleArray trie_;
  std::string results_;
  std::unique_ptr<icu::BreakIterator> graphemes_;
};

}  // namespace

std::unique_ptr<Normalizer> make_precompiled_normalizer(std::string bytes, const std::string& where) {
  return std::make_unique<PrecompiledNormalizer>(bytes, where);
}

}  // namespace mla
