// What a search for a conversion found, for programs and for people.
#pragma once

#include <ostream>

#include "core/base/json.h"
#include "experiments/automatic/search.h"
#include "experiments/cache/model_cache.h"

namespace mla {

/// Candidates with their trials, what was left out, what was chosen and why. `cache`: bytes of the chosen model's, of
/// one sequence of `tokens` tokens, counted in its buffers.
Json automatic_json(const AutomaticResult& result, const ModelSpec& source, const CacheBytes& cache,
                    std::int64_t tokens);

/// The same as text; `report` as above, with "budget", "output" and "seconds".
void print_automatic(const Json& report, std::ostream& out);

}  // namespace mla
