// The words that DataOptions takes.
#pragma once

#include <string>
#include <vector>

namespace mla {

const std::vector<std::string>& long_document_rules();

}  // namespace mla
