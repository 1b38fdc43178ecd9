#include "core/text/byte_level.h"

#include <array>

#include "core/text/utf8.h"

namespace mla {
namespace {

/// GPT-2's rule: printable Latin-1 characters stand for themselves, the other bytes for U+0100 and what follows.
struct Alphabet {
  std::array<char32_t, 256> characters{};
  std::array<int, 512> bytes{};

  Alphabet() {
    bytes.fill(-1);
    char32_t next = 0x100;
    for (int byte = 0; byte < 256; ++byte) {
      const bool printable = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte != 0xAD);
      const char32_t character = printable ? static_cast<char32_t>(byte) : next++;
      characters[static_cast<std::size_t>(byte)] = character;
      bytes[character] = byte;
    }
  }
};

const Alphabet& alphabet() {
  static const Alphabet alphabet;
  return alphabet;
}

}  // namespace

std::optional<std::string> bytes_of_spelling(std::string_view spelling) {
  const Alphabet& known = alphabet();
  std::string bytes;
  for (std::size_t at = 0; at < spelling.size();) {
    const CodePoint here = read_utf8(spelling.data() + at);
    if (here.value >= known.bytes.size() || known.bytes[here.value] < 0) return std::nullopt;
    bytes.push_back(static_cast<char>(known.bytes[here.value]));
    at += here.size;
  }
  return bytes;
}

char32_t character_of_byte(unsigned char byte) { return alphabet().characters[byte]; }

}  // namespace mla
