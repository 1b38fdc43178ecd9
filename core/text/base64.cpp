#include "core/text/base64.h"

#include <array>

namespace mla {

std::optional<std::string> decode_base64(std::string_view text) {
  static constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  static const std::array<signed char, 256> values = [] {
    std::array<signed char, 256> all{};
    all.fill(-1);
    for (std::size_t i = 0; i < kDigits.size(); ++i) {
      all[static_cast<unsigned char>(kDigits[i])] = static_cast<signed char>(i);
    }
    return all;
  }();
  while (text.ends_with('=')) text.remove_suffix(1);
  std::string bytes;
  unsigned buffer = 0;
  int bits = 0;
  for (const char digit : text) {
    const int value = values[static_cast<unsigned char>(digit)];
    if (value < 0) return std::nullopt;
    buffer = (buffer << 6 | static_cast<unsigned>(value)) & 0xFFFFFF;
    bits += 6;
    if (bits >= 8) {
      bits -= 8;
      bytes.push_back(static_cast<char>(buffer >> bits & 0xFF));
    }
  }
  return bytes;
}

}  // namespace mla
