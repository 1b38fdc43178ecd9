// The alphabet in which byte-level vocabularies spell bytes: one printable character for each of the 256.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace mla {

/// The bytes that `spelling` stands for ("Ġa" is " a"); nothing when a character is not in the alphabet.
std::optional<std::string> bytes_of_spelling(std::string_view spelling);

/// The character of one byte.
char32_t character_of_byte(unsigned char byte);

}  // namespace mla
