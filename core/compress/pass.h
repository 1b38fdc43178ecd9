// A compression method: one pass over a model.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>

#include "core/compress/calibrate.h"
#include "core/compress/decomposition_store.h"
#include "core/compress/report.h"
#include "core/model/decoder.h"

namespace mla {

/// What a pass is given besides the model.
struct PassInputs {
  const CalibrationStatistics* statistics = nullptr;  ///< needed when needs_statistics()
  DecompositionStore* store = nullptr;                ///< decompositions shared by the cells of a sweep; may be null
  at::ScalarType arithmetic = at::kFloat;             ///< precision of decompositions: float32 or float64
  std::optional<at::ScalarType> weights;             ///< dtype of new weights; absent: that of the weights they replace
  std::function<void(std::int64_t layer)> progress;  ///< told of each finished layer; may be empty
};

/// One published compression method. Experiments list passes in order.
class Pass {
 public:
  static constexpr const char* kKind = "pass";
  virtual ~Pass() = default;

  /// Whether apply() needs statistics measured on data.
  virtual bool needs_statistics() const = 0;

  /// Shapes, cache and parameters after the pass, from geometry alone.
  /// Throws ConfigError for options that do not fit the geometry, naming the path the pass was read from.
  virtual CompressionPlan plan(const Geometry& geometry) const = 0;

  /// Tells the store which widths apply() will ask it for, so that a sweep decomposes once for its widest cell; nothing
  /// where there is no such work to share.
  virtual void announce(const Geometry& geometry, DecompositionStore& store) const = 0;

  /// Converts the model in place. Throws ConfigError for a model that is converted already.
  virtual CompressionReport apply(Decoder& decoder, const PassInputs& inputs) const = 0;

  /// The method's first stage as a pass of its own: partial RoPE without the low-rank step, so that a model can be
  /// trained between the two. Null for a method that has no such stage.
  virtual std::unique_ptr<Pass> partial_rope() const { return nullptr; }

  /// The second stage: the low-rank step on a model that partial_rope() has converted, with the pairs it kept. The
  /// report is that of the whole conversion. `inputs.store` is not used: the model may have been trained since.
  virtual CompressionReport add_low_rank(Decoder& /*decoder*/, const PassInputs& /*inputs*/) const {
    throw std::logic_error("a pass that has no stage of partial RoPE");
  }
};

}  // namespace mla
