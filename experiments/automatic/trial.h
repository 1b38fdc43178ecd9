// One conversion for a trial, and what a model predicts through its cache.
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "core/base/json.h"
#include "core/compress/calibration/rows.h"
#include "core/compress/report.h"
#include "core/model/decoder.h"

namespace mla {

/// The model after passes, which shares what they left alone with the source.
struct TriedModel {
  Decoder decoder;
  std::vector<PassReport> reports;
};

/// What passes are measured on, and how they compute.
struct TrialInputs {
  const Decoder& source;
  const TokenRowList& rows;
  at::ScalarType arithmetic = at::kFloat;
  std::optional<at::ScalarType> weights;   ///< of new maps; absent: that of those they replace
  std::function<void()> after_layer = {};  ///< told of each layer that a pass is done with; may be empty
};

/// Runs the passes of `compress` on a copy of `start`, the source or what passes made of it. Throws as passes do.
TriedModel try_passes(const Json& compress, const Decoder& start, const TrialInputs& inputs);

/// Mean of -log p over the tokens of the rows after the first of each, in nats, with the cache stored in codes of so
/// many bits: read token by token for `step` = 1, or so many at a time, which see each other as they are, in less time.
/// Values that are stored as they are: one forward pass.
double nll_through_cache(const Decoder& decoder, const TokenRowList& rows, std::int64_t bits, std::int64_t step);

}  // namespace mla
