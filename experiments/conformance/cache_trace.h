// Token-by-token likelihoods of a model that decodes through another program's quantized cache, replayed.
#pragma once

#include <c10/core/ScalarType.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "core/base/json.h"
#include "core/kv_cache/layer_cache.h"
#include "core/kv_cache/stream.h"

namespace mla {

struct TraceResult {
  std::string name;
  double mean_nll_prompt = 0, mean_nll_decode = 0;
  double expected_mean = 0;       ///< of the decoded tokens
  double largest_difference = 0;  ///< of one token's NLL
  double mean_difference = 0;     ///< of the decoded tokens' mean NLL
  std::vector<double> nll;
  std::vector<std::int64_t> requantised;  ///< lengths at which what was stored was encoded anew
  double effective_bits = 0;
  std::string refused;  ///< why the cache cannot be made
  bool passed = false;

  Json to_json() const;
};

/// What a trace's description of a cache says: "QuantizedCache backend=hqq nbits=4 axis_key=axis_value=0
/// q_group_size=64 residual_length=32 optimize=False", "KIVI … bits=4 residual=32 group=16", "DynamicCache", "none, …".
struct TraceCache {
  CacheFormat format;
  std::vector<std::int64_t> calls;  ///< sizes of the calls
};

/// Throws DataError naming `where` for a description that is none of these.
TraceCache parse_trace_cache(const std::string& description, std::int64_t prompt, std::int64_t tokens,
                             const std::string& where);

/// Reads {"ids", "prompt", "runs": {name: {"cache", "nll", …}}} and decodes with each run's cache. A run passes when
/// every token's NLL is within 1e-3 (1e-4 without a codec) or, where single codes flip, the mean within 1e-2; a run
/// that "failed" passes when it is refused. `only` not empty: the run of that name. Throws DataError naming file, key
/// and what stands there for a trace of another form.
std::vector<TraceResult> replay_traces(const std::filesystem::path& file, const std::filesystem::path& model,
                                       const std::string& only, const LoadOptions& loading = {});

}  // namespace mla
