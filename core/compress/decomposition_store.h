// Decompositions of one model's layers, kept so that every rank of a sweep is cut from the same one.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "core/low_rank/factorizer.h"

namespace mla {

/// Factor once, truncate many. Keys name what a decomposition depends on besides its width: layer, kept pairs,
/// factorizer options, arithmetic. One store serves one source model.
class DecompositionStore {
 public:
  using Make = std::function<std::unique_ptr<Decomposition>(std::int64_t largest_width)>;

  /// Says that `layer` will be asked for up to `width`, so that the first request decomposes far enough for all.
  void announce(std::int64_t layer, std::int64_t width);

  /// The decomposition under `key`, made when it is not there or not wide enough.
  const Decomposition& get(const std::string& key, std::int64_t layer, std::int64_t width, const Make& make);

  /// How many were computed, for reports and tests.
  std::int64_t computed() const { return computed_; }

 private:
  struct Entry {
    std::int64_t width = 0;
    std::unique_ptr<Decomposition> decomposition;
  };
  std::map<std::string, Entry> entries_;
  std::map<std::int64_t, std::int64_t> announced_;
  std::int64_t computed_ = 0;
};

}  // namespace mla
