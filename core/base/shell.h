// Words as a POSIX shell reads them.
#pragma once

#include <string>
#include <string_view>

namespace mla {

/// `word`, quoted where a shell needs it.
std::string shell_quoted(std::string_view word);

}  // namespace mla
