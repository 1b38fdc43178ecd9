// Decompositions of one model's layers, kept so that every rank of a sweep is cut from the same one.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <utility>

#include "core/low_rank/factorizer.h"

namespace mla {

/// Factor once, truncate many. A decomposition belongs to a layer of a `kind` (the factorizer with its options, the
/// number of kept pairs: what decides which widths there can be) and depends besides on `selection` (which pairs are
/// kept, the arithmetic). One store serves one source model.
class DecompositionStore {
 public:
  using Make = std::function<std::unique_ptr<Decomposition>(std::int64_t largest_width)>;

  /// Says that layers of this kind will be asked for up to `width`, so that the first request decomposes far enough for
  /// all.
  void announce(const std::string& kind, std::int64_t layer, std::int64_t width);

  /// Whether anything was announced: a pass without a low-rank step asks for nothing.
  bool expects_any() const { return !announced_.empty(); }

  /// The decomposition, made when it is not there or not wide enough.
  const Decomposition& get(const std::string& kind, std::int64_t layer, const std::string& selection,
                           std::int64_t width, const Make& make);

  /// How many were computed, for reports and tests.
  std::int64_t computed() const { return computed_; }

 private:
  struct Entry {
    std::int64_t width = 0;
    std::unique_ptr<Decomposition> decomposition;
  };
  std::map<std::tuple<std::string, std::int64_t, std::string>, Entry> entries_;
  std::map<std::pair<std::string, std::int64_t>, std::int64_t> announced_;
  std::int64_t computed_ = 0;
};

}  // namespace mla
