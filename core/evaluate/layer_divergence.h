// What the conversion of each layer alone does to a model's predictions.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "core/evaluate/divergence.h"

namespace mla {

/// One entry per layer: the divergence from `source` of `source` with that layer's attention taken from `converted`.
/// What stands below a layer is computed once for all, so that all layers together cost about half of as many models.
/// `progress`, if given, is told of tokens compared, each once per layer. Throws as divergence() does.
std::vector<TokenDivergence> layer_divergence(const Decoder& source, const Decoder& converted,
                                              const std::vector<std::vector<std::int32_t>>& sequences,
                                              const PerplexityOptions& options, const TokenProgress& progress = {});

}  // namespace mla
