// Bytes written as text.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace mla {

/// base64 as bytes, with or without its padding; nothing when a character is none of the 64.
std::optional<std::string> decode_base64(std::string_view text);

}  // namespace mla
