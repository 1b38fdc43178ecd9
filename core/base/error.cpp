#include "core/base/error.h"

#include <array>
#include <cstdio>

namespace mla {

std::string readable(std::string_view message) {
  constexpr std::size_t kLongest = 3000;
  const auto continues = [](char byte) { return (static_cast<unsigned char>(byte) & 0xC0) == 0x80; };
  std::size_t size = message.size();
  if (size > kLongest) {
    size = kLongest;
    while (size > 0 && continues(message[size])) --size;  // whole characters only
  }
  std::string text;
  for (const char letter : message.substr(0, size)) {
    const auto code = static_cast<unsigned char>(letter);
    if ((code >= ' ' && code != 0x7F) || letter == '\n' || letter == '\t') {
      text.push_back(letter);
    } else {
      std::array<char, 5> spelt{};
      std::snprintf(spelt.data(), spelt.size(), "\\x%02X", code);
      text += spelt.data();
    }
  }
  return size < message.size() ? cat(text, "... (", message.size(), " bytes)") : text;
}

}  // namespace mla
