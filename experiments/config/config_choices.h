// The words that fields of an experiment's config take, where these are of no type of their own.
#pragma once

#include <string>
#include <vector>

namespace mla {

const std::vector<std::string>& packing_names();
const std::vector<std::string>& arithmetic_names();

}  // namespace mla
