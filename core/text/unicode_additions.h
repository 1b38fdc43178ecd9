// The characters of Unicode 16 that Oniguruma 6.9.8 (Unicode 14) and ICU 72 (Unicode 15) do not know yet.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace mla {

/// Characters from `first` to `last`, added to Unicode after version 14, and their general category: "Lu", "So", …
struct AddedCharacters {
  char32_t first, last;
  const char* category;
};

/// All of them up to Unicode 16, which the reference libraries have, in order.
std::span<const AddedCharacters> unicode_additions();

/// A set of code points as Oniguruma takes it: the number of ranges, then the first and last code point of each.
using CodeRanges = std::vector<std::uint32_t>;

/// The sets of the properties that unicode_additions() changes, by their names in a regular expression: "l", "lu", …,
/// "han", "idcontinue".
struct UnicodeProperty {
  const char* name;
  CodeRanges ranges;
};
std::vector<UnicodeProperty> unicode_16_properties();

}  // namespace mla
