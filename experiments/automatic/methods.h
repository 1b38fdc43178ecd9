// The conversions that are tried for a budget, each at any size.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/base/json.h"
#include "core/model/model_spec.h"
#include "experiments/cache/cache_format.h"

namespace mla {

/// How much a conversion may cost.
enum class Effort {
  kQuick,  ///< what tells methods from each other: sizes are stated where they could be searched for
  kAlike,  ///< the method at its best with layers of one size
  kFull,   ///< the method at its best
};

struct AutomaticMethod {
  std::string name;
  /// The passes, as a config lists them, that leave at most so many cached values per token, all layers together.
  std::function<Json(const ModelSpec& spec, std::int64_t values, Effort effort)> passes;
};

/// All that are tried, and registered ones that are not, each with the reason.
const std::vector<AutomaticMethod>& automatic_methods();
const std::vector<std::pair<std::string, std::string>>& methods_left_out();

/// The passes of a method whose model stores its cache in values of so many bits: codes are prepared for.
Json passes_for_bits(const AutomaticMethod& method, const ModelSpec& spec, std::int64_t values, std::int64_t bits,
                     Effort effort);

/// Bits of a cached value: 16, as it is, or those of codes, with a scale and a minimum in 16 bits for each row.
CacheConfig codes_of(std::int64_t bits);

/// Bytes per token that a model's cache takes at most, whatever the widths are that its layers come to share.
std::int64_t most_cache_bytes(const ModelSpec& spec, std::int64_t bits);

/// Cached values, all layers together, and the bytes that they take at most.
struct CacheSize {
  std::int64_t values = 0, bytes = 0;
};

/// What fits a model at some number of bits: the smallest size of the method, and the largest within `bytes`.
struct FittingSizes {
  CacheSize least;
  std::optional<CacheSize> most;  ///< absent: the smallest is too large
};

/// Throws ConfigError, as the method's passes say it, where it cannot take the model at any size.
FittingSizes fitting_sizes(const AutomaticMethod& method, const ModelSpec& spec, std::int64_t bits, std::int64_t bytes);

}  // namespace mla
