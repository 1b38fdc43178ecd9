// What a record keeps of a perplexity.
#pragma once

#include <string>
#include <vector>

#include "core/evaluate/perplexity.h"
#include "core/store/record.h"

namespace mla {

/// Perplexity's three faces, metrics nll, perplexity and, where bytes are known, bits_per_byte; the per-token values
/// stand under the first. The others' errors follow from its by the delta method.
std::vector<ScoreRecord> perplexity_scores(const std::string& stage, const std::string& task,
                                           const PerplexityResult& result);

}  // namespace mla
