#include "core/text/char_class.h"

#include <unicode/uchar.h>

#include <cstring>

#include "core/text/unicode_additions.h"

namespace mla {
namespace {

constexpr char32_t kCodePoints = 0x110000;

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
  for (const AddedCharacters& added : unicode_additions()) {
    const char kind = added.category[0];
    const CharClass value = kind == 'L' ? CharClass::kLetter : kind == 'N' ? CharClass::kNumber : CharClass::kOther;
    std::memset(&classes_[added.first], static_cast<int>(value), added.last - added.first + 1);
  }
}

const CharClasses& CharClasses::instance() {
  static const CharClasses classes;
  return classes;
}

bool is_numeric(char32_t code) {
  const bool since_17 = (code >= 0x11DE0 && code <= 0x11DE9) || (code >= 0x16FF4 && code <= 0x16FF6);
  return since_17 || CharClasses::instance()[code] == CharClass::kNumber;
}

bool is_word(char32_t code) {
  const auto character = static_cast<UChar32>(code);
  const CharClass kind = CharClasses::instance()[code];
  const bool new_digit = kind == CharClass::kNumber && u_charType(character) == U_UNASSIGNED;
  return kind == CharClass::kLetter || new_digit || u_hasBinaryProperty(character, UCHAR_ALPHABETIC) ||
         (U_GET_GC_MASK(character) & (U_GC_M_MASK | U_GC_ND_MASK | U_GC_PC_MASK)) != 0 ||
         u_hasBinaryProperty(character, UCHAR_JOIN_CONTROL);
}

bool is_punctuation(char32_t code) {
  if (code < 0x80) return code > 0x20 && code < 0x7F && !u_isalnum(static_cast<UChar32>(code));
  if (code == 0x166D || code == 0x111C9) return true;  // Symbols and marks today, punctuation in Unicode 8.
  UVersionInfo age;
  u_charAge(static_cast<UChar32>(code), age);
  return (U_GET_GC_MASK(static_cast<UChar32>(code)) & U_GC_P_MASK) != 0 && age[0] <= 8;
}

}  // namespace mla
