// Statistics while they are gathered: who watches the forward pass for a set of requirements.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "core/attention/forward_context.h"
#include "core/compress/calibration/statistics.h"
#include "core/compress/requirement.h"

namespace mla {

/// The reducers of one calibration, and what the batch under way has shown them.
class Gathering {
 public:
  /// `requirements` are referred to. Throws ConfigError for a reducer that is not known or does not fit its taps.
  explicit Gathering(const Requirements& requirements);
  Gathering(const Gathering&) = delete;
  Gathering& operator=(const Gathering&) = delete;

  bool gradients() const { return gradients_; }
  bool spans_layers() const { return !spanning_.empty(); }
  const Observer& observer() const { return observer_; }

  /// Hands on what spans layers.
  void end_batch();

  /// Adds what was gathered to `statistics`, which knows the number of tokens.
  void finish(Statistics& statistics) const;

 private:
  using Place = std::pair<Requirement, std::int64_t>;
  void add_tap(Tap tap);
  Reducer& reducer(const Requirement& requirement, std::int64_t layer);
  void see(Tap tap, std::int64_t layer, const at::Tensor& tensor);
  void take(const Requirement& requirement, Tap tap, std::int64_t layer, const at::Tensor& tensor);

  const Requirements& requirements_;
  Observer observer_;
  bool gradients_ = false;
  std::map<Place, std::unique_ptr<Reducer>> reducers_;
  std::map<Place, at::Tensor> waiting_;                      ///< for the other tap of theirs
  std::map<Requirement, std::vector<at::Tensor>> spanning_;  ///< of the batch under way, layer by layer
};

}  // namespace mla
