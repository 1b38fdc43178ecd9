// Messages for a terminal.
#pragma once

#include <string>

namespace mla {

/// `text` as one line, its middle left out where it is longer than a person reads (a path or a value of any length may
/// stand in it).
std::string message_line(std::string text);

}  // namespace mla
