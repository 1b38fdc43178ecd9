// Several values of one option, joined by commas.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

namespace mla {

/// What stands between the commas. Throws ConfigError naming `option` where nothing does; `expected` says what one
/// value is, with its article.
std::vector<std::string> comma_list(const std::string& text, const std::string& option, const std::string& expected);

/// Whole numbers from `least` to `most`. Throws ConfigError naming `option` for anything else.
std::vector<std::int64_t> whole_numbers(const std::string& text, const std::string& option, std::int64_t least,
                                        std::int64_t most = std::numeric_limits<std::int64_t>::max());

}  // namespace mla
