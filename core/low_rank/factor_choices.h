// The words that RankFactorOptions takes.
#pragma once

#include <string>
#include <vector>

namespace mla {

const std::vector<std::string>& factor_placements();
const std::vector<std::string>& factor_metrics();

}  // namespace mla
