// A compression method: one pass over a model, as the passes before have left it.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "core/base/json.h"
#include "core/compress/calibration/statistics.h"
#include "core/compress/decomposition_store.h"
#include "core/compress/report.h"
#include "core/model/decoder.h"

namespace mla {

/// What a pass is given besides the model.
struct PassInputs {
  const Statistics* statistics = nullptr;  ///< of the model as it stands; needed where there are requirements()
  const TokenRowList* rows = nullptr;      ///< calibration rows; needed where the pass reads_rows()
  const Decoder* source = nullptr;         ///< the model before the first pass; needed where the pass reads_source()
  DecompositionStore* store = nullptr;     ///< decompositions of the model as it stands, for other cells; may be null
  at::ScalarType arithmetic = at::kFloat;  ///< precision of decompositions: float32 or float64
  std::optional<at::ScalarType> weights;   ///< dtype of new weights; absent: that of the weights they replace
  std::function<void(std::int64_t layer)> progress;  ///< told of each finished layer; may be empty
};

/// One published compression method, one file: it plans on a description, and does on a model what it planned.
/// Experiments list passes in order. `spec` is the model as the passes before leave it.
class Pass {
 public:
  static constexpr const char* kKind = "pass";
  virtual ~Pass() = default;

  /// The statistics of the model as it stands that apply() needs.
  virtual Requirements requirements() const { return {}; }

  /// Whether apply() runs calibration rows through the model itself (core/compress/calibration/layer_walk.h), and
  /// whether through the source model as well.
  virtual bool reads_rows() const { return false; }
  virtual bool reads_source() const { return false; }

  bool needs_calibration() const { return reads_rows() || !requirements().empty(); }

  /// Calibration rows that each layer's attention is trained on, those of all its steps, for estimates of time.
  virtual std::int64_t trained_rows() const { return 0; }

  /// The model after the pass: every shape; what is measured on data (which pairs are kept) stands for as many others.
  /// Throws ConfigError for options that do not fit the model, naming the path the pass was read from.
  virtual ModelSpec plan(const ModelSpec& spec) const = 0;

  /// Whether the shapes of single layers follow from data or weights, so that plan() knows their total alone: cached
  /// elements of all layers together are exactly those planned.
  virtual bool measures_shapes() const { return false; }

  /// Tells the store which widths apply() will ask it for, so that a sweep decomposes once for its widest cell; nothing
  /// where there is no such work to share.
  virtual void announce(const ModelSpec& /*spec*/, DecompositionStore& /*store*/) const {}

  /// Converts the model in place, and reports on each layer that it leaves.
  virtual std::vector<LayerReport> apply(Decoder& decoder, const PassInputs& inputs) const = 0;

  /// The passes, as a config would list them, that this one is the sequence of, so that a model can be trained between
  /// them; empty where it is one step.
  virtual std::vector<Json> steps() const { return {}; }
};

/// Applies a pass called `name`. What was planned and what came out are compared in every shape and stored element; a
/// difference is a std::logic_error.
PassReport run_pass(const std::string& name, const Pass& pass, Decoder& decoder, const PassInputs& inputs);

/// Throws std::logic_error where the model's layers, tensors, their storage or cached streams are not those of
/// `planned`, or where its buffers hold other bytes than the description predicts; of a pass that measures shapes,
/// where cached elements are others in all.
void expect_as_planned(const ModelSpec& planned, const Decoder& decoder, bool measured = false);

}  // namespace mla
