// "did you mean" for misspelt names and keys.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace mla {

/// The known name closest to `name` by edit distance, or "" when none is close enough to be a likely misspelling.
std::string closest_name(std::string_view name, const std::vector<std::string>& known);

/// "no 'two_nrm'; did you mean 'two_norm'? known: high, low, two_norm": the tail of an error about a name.
std::string unknown_name(std::string_view name, const std::vector<std::string>& known);

/// "did you mean 'two_norm'? known: high, low, two_norm": the same without its beginning.
std::string alternatives(std::string_view name, const std::vector<std::string>& known);

/// The names joined by ", ".
std::string join(const std::vector<std::string>& names);

}  // namespace mla
