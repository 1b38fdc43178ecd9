#include "core/text/utf8.h"

#include <cstdint>
#include <cstring>

namespace mla {
namespace {

/// A code point, or the maximal part of one, at the front of a text.
struct Sequence {
  std::size_t size;
  bool valid;
};

/// How many bytes follow `lead`, and the bounds of the first of them (Unicode 15, table 3-7); 0 for no lead byte.
struct Lead {
  std::size_t following;
  unsigned char low, high;
};

Lead classify_lead(unsigned char lead) {
  if (lead >= 0xC2 && lead <= 0xDF) return {1, 0x80, 0xBF};
  if (lead >= 0xE0 && lead <= 0xEF) {
    return {2, static_cast<unsigned char>(lead == 0xE0 ? 0xA0 : 0x80),
            static_cast<unsigned char>(lead == 0xED ? 0x9F : 0xBF)};
  }
  if (lead >= 0xF0 && lead <= 0xF4) {
    return {3, static_cast<unsigned char>(lead == 0xF0 ? 0x90 : 0x80),
            static_cast<unsigned char>(lead == 0xF4 ? 0x8F : 0xBF)};
  }
  return {0, 0, 0};
}

Sequence first_sequence(std::string_view text) {
  const auto lead = static_cast<unsigned char>(text[0]);
  if (lead < 0x80) return {1, true};
  const Lead expected = classify_lead(lead);
  if (expected.following == 0) return {1, false};
  for (std::size_t i = 1; i <= expected.following; ++i) {
    if (i >= text.size()) return {i, false};
    const auto byte = static_cast<unsigned char>(text[i]);
    const bool fits = i == 1 ? byte >= expected.low && byte <= expected.high : (byte & 0xC0) == 0x80;
    if (!fits) return {i, false};
  }
  return {expected.following + 1, true};
}

/// Skips ASCII eight bytes at a time; most text is little else.
std::size_t skip_ascii(std::string_view text, std::size_t at) {
  while (at + 8 <= text.size()) {
    std::uint64_t block;
    std::memcpy(&block, text.data() + at, 8);
    if ((block & 0x8080808080808080u) != 0) break;
    at += 8;
  }
  return at;
}

}  // namespace

std::string to_utf8(char32_t code) {
  std::string out;
  const auto put = [&out](char32_t byte) { out.push_back(static_cast<char>(byte)); };
  if (code < 0x80) {
    put(code);
  } else if (code < 0x800) {
    put(0xC0 | code >> 6);
    put(0x80 | (code & 0x3F));
  } else if (code < 0x10000) {
    put(0xE0 | code >> 12);
    put(0x80 | (code >> 6 & 0x3F));
    put(0x80 | (code & 0x3F));
  } else {
    put(0xF0 | code >> 18);
    put(0x80 | (code >> 12 & 0x3F));
    put(0x80 | (code >> 6 & 0x3F));
    put(0x80 | (code & 0x3F));
  }
  return out;
}

std::size_t valid_utf8_prefix(std::string_view text) {
  std::size_t at = 0;
  for (;;) {
    at = skip_ascii(text, at);
    if (at == text.size()) return at;
    const Sequence next = first_sequence(text.substr(at));
    if (!next.valid) return at;
    at += next.size;
  }
}

std::string replace_invalid_utf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const std::size_t good = valid_utf8_prefix(text);
    out.append(text.substr(0, good));
    text.remove_prefix(good);
    if (text.empty()) break;
    out.append("\xEF\xBF\xBD");
    text.remove_prefix(first_sequence(text).size);
  }
  return out;
}

std::string for_message(std::string_view text) {
  constexpr std::size_t kLongest = 80;
  std::string out;
  std::string valid = replace_invalid_utf8(text.substr(0, kLongest + 4));  // No code point is cut within kLongest.
  for (std::size_t at = 0; at < valid.size() && at < kLongest; at += utf8_size(valid[at])) {
    const bool control = static_cast<unsigned char>(valid[at]) < 0x20 || valid[at] == 0x7F;
    out += control ? "\xEF\xBF\xBD" : valid.substr(at, utf8_size(valid[at]));
  }
  return text.size() > kLongest ? out + "…" : out;
}

}  // namespace mla
