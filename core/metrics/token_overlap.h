// F1 of two bags of tokens.
#pragma once

#include <string>
#include <vector>

namespace mla {

/// Harmonic mean of precision and recall of the tokens that both have, with multiplicity; 0 where they share none.
double token_f1(const std::vector<std::u32string>& prediction, const std::vector<std::u32string>& reference);

}  // namespace mla
