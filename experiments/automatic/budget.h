// How much a converted model may cache for each token, as a user states it.
#pragma once

#include <cstdint>
#include <string>

namespace mla {

/// Bytes that 16-bit caches take for an element: what budgets and sources are counted in.
inline constexpr std::int64_t kBytesOfElement = 2;

/// A share of what the source caches ("20%"), or bytes per token, all layers together ("9216").
struct CacheBudget {
  std::string stated;
  double share = 0;        ///< of the source's bytes, up to 1; 0: `bytes` says it
  std::int64_t bytes = 0;  ///< per token

  /// Throws ConfigError naming `option` for anything that is neither, and for a share that is 0 or above 100 %.
  static CacheBudget parse(const std::string& text, const std::string& option);

  /// Bytes per token for a source that caches `source` of them, rounded down. Throws ConfigError naming `option` for
  /// more than these.
  std::int64_t per_token(std::int64_t source, const std::string& option) const;
};

}  // namespace mla
