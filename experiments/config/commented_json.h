// A commented YAML config as JSON with comments.
#pragma once

#include <string>

namespace mla {

/// The same config as JSON: before each key of the object stand, as `//`, the lines of comment that stand before it in
/// the YAML, and those within its value. Comments at the end of a line are left out.
std::string commented_json(const std::string& yaml);

}  // namespace mla
