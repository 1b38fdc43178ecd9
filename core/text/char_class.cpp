#include "core/text/char_class.h"

#include <unicode/uchar.h>

#include <cstring>

namespace mla {
namespace {

constexpr char32_t kCodePoints = 0x110000;

struct Range {
  char32_t first, last;
};

constexpr Range kNewLetters[] = {
    {0x1C89, 0x1C8A},   {0xA7CB, 0xA7CD},   {0xA7DA, 0xA7DC},   {0x105C0, 0x105F3}, {0x10D4A, 0x10D65},
    {0x10D6F, 0x10D85}, {0x10EC2, 0x10EC4}, {0x11380, 0x11389}, {0x1138B, 0x1138B}, {0x1138E, 0x1138E},
    {0x11390, 0x113B5}, {0x113B7, 0x113B7}, {0x113D1, 0x113D1}, {0x113D3, 0x113D3}, {0x11BC0, 0x11BE0},
    {0x13460, 0x143FA}, {0x16100, 0x1611D}, {0x16D40, 0x16D6C}, {0x18CFF, 0x18CFF}, {0x1E5D0, 0x1E5ED},
    {0x1E5F0, 0x1E5F0}, {0x2EBF0, 0x2EE5D},
};

constexpr Range kNewNumbers[] = {
    {0x10D40, 0x10D49}, {0x116D0, 0x116E3}, {0x11BF0, 0x11BF9}, {0x16130, 0x16139},
    {0x16D70, 0x16D79}, {0x1CCF0, 0x1CCF9}, {0x1E5F1, 0x1E5FA},
};

CharClass class_of(char32_t code) {
  const auto character = static_cast<UChar32>(code);
  const std::uint32_t category = U_GET_GC_MASK(character);
  if (u_isUWhiteSpace(character)) return CharClass::kSpace;
  if (category & U_GC_L_MASK) return CharClass::kLetter;
  if (category & U_GC_N_MASK) return CharClass::kNumber;
  return CharClass::kOther;
}

}  // namespace

CharClasses::CharClasses() : classes_(new std::uint8_t[kCodePoints]) {
  for (char32_t code = 0; code < kCodePoints; ++code) classes_[code] = static_cast<std::uint8_t>(class_of(code));
  const auto fill = [this](const Range& range, CharClass value) {
    std::memset(&classes_[range.first], static_cast<int>(value), range.last - range.first + 1);
  };
  for (const Range& range : kNewLetters) fill(range, CharClass::kLetter);
  for (const Range& range : kNewNumbers) fill(range, CharClass::kNumber);
}

const CharClasses& CharClasses::instance() {
  static const CharClasses classes;
  return classes;
}

bool is_numeric(char32_t code) {
  const bool since_17 = (code >= 0x11DE0 && code <= 0x11DE9) || (code >= 0x16FF4 && code <= 0x16FF6);
  return since_17 || CharClasses::instance()[code] == CharClass::kNumber;
}

bool is_punctuation(char32_t code) {
  if (code < 0x80) return code > 0x20 && code < 0x7F && !u_isalnum(static_cast<UChar32>(code));
  if (code == 0x166D || code == 0x111C9) return true;  // Symbols and marks today, punctuation in Unicode 8.
  UVersionInfo age;
  u_charAge(static_cast<UChar32>(code), age);
  return (U_GET_GC_MASK(static_cast<UChar32>(code)) & U_GC_P_MASK) != 0 && age[0] <= 8;
}

}  // namespace mla
