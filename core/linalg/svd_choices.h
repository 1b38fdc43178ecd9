// The words that SvdOptions takes.
#pragma once

#include <string>
#include <vector>

namespace mla {

const std::vector<std::string>& svd_methods();

}  // namespace mla
