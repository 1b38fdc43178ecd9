// UTF-8: reading code points, writing them, and repairing text that is not UTF-8.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace mla {

/// One code point and the bytes it takes.
struct CodePoint {
  char32_t value;
  std::size_t size;
};

/// The code point that begins at `at`. The text there must be valid UTF-8.
inline CodePoint read_utf8(const char* at) {
  const auto byte = [at](int i) { return static_cast<char32_t>(static_cast<unsigned char>(at[i])); };
  const char32_t lead = byte(0);
  if (lead < 0x80) return {lead, 1};
  if (lead < 0xE0) return {(lead & 0x1F) << 6 | (byte(1) & 0x3F), 2};
  if (lead < 0xF0) return {(lead & 0x0F) << 12 | (byte(1) & 0x3F) << 6 | (byte(2) & 0x3F), 3};
  return {(lead & 0x07) << 18 | (byte(1) & 0x3F) << 12 | (byte(2) & 0x3F) << 6 | (byte(3) & 0x3F), 4};
}

/// The bytes of the code point that begins with `lead`, in valid UTF-8.
inline std::size_t utf8_size(char lead) {
  const auto byte = static_cast<unsigned char>(lead);
  return byte < 0x80 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
}

/// The code point that ends just before `end`. The text there must be valid UTF-8.
inline CodePoint read_utf8_before(const char* end) {
  do --end;
  while ((static_cast<unsigned char>(*end) & 0xC0) == 0x80);
  return read_utf8(end);
}

/// `code` in UTF-8.
std::string to_utf8(char32_t code);

/// The length of the longest prefix of `text` that is valid UTF-8.
std::size_t valid_utf8_prefix(std::string_view text);

/// `text` with each maximal invalid part replaced by U+FFFD (Unicode 15, section 3.9), as Rust and Python do.
std::string replace_invalid_utf8(std::string_view text);

/// `text` as part of an error message of one line: valid UTF-8, control characters as U+FFFD, cut to some 80 bytes.
std::string for_message(std::string_view text);

}  // namespace mla
