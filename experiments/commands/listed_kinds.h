// What `mlaforge list` can be asked for.
#pragma once

#include <string>
#include <vector>

namespace mla {

/// "family", "pass", …: the kinds of what configs and checkpoints name, in the order in which they are listed.
std::vector<std::string> listed_kinds();

}  // namespace mla
