// Amounts of memory as people write and read them.
#pragma once

#include <cstdint>
#include <string>

namespace mla {

/// "200MB", "5gb", "1000000": a number of bytes, KB, MB or GB, which are powers of a thousand, as in transformers.
/// Throws ConfigError naming `option` for anything else, and for nothing.
std::int64_t parse_bytes(const std::string& text, const std::string& option);

/// "13.5 GB", "512 bytes": three digits.
std::string describe_bytes(std::int64_t bytes);

/// The most memory that this process has held so far.
std::int64_t peak_memory_bytes();

}  // namespace mla
