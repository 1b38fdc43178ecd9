// Calibration rows on their way through a model, layer by layer, while the layers may be changed: for methods that fit
// a layer to what reaches it, or to what it is to give.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <vector>

#include "core/compress/calibration/statistics.h"
#include "core/model/decoder.h"

namespace mla {

/// Stands before one layer with the hidden states that reach it through the layers before, as these were when it went
/// through them. One walk through a source model and one through the model being converted, side by side, give both
/// what a layer should do and what it gets. Holds the states of all rows, tokens * hidden elements.
class LayerWalk {
 public:
  /// Before the first layer. `decoder` is referred to, and its layers may be replaced on the way, but not their number.
  /// Throws as calibration_batches() does.
  LayerWalk(const Decoder& decoder, const TokenRowList& rows, const CalibrationOptions& options);

  bool done() const { return layer_ == decoder_.spec().layer_count(); }
  std::int64_t layer() const { return layer_; }
  /// What enters the layer, batch by batch, [rows, length, hidden]: shorter rows first.
  const std::vector<at::Tensor>& states() const { return states_; }

  using See = std::function<void(std::size_t batch, const at::Tensor& tensor)>;

  /// Runs the layer as it now is over all batches and stays before it. `see(batch, tensor)` is called with what `tap`
  /// shows of each. A tap of its attention costs that half of the layer alone.
  void observe(Tap tap, const See& see) const;

  /// The same with reducers: the layer's statistics of what reaches it, which no gradient and no reducer that spans
  /// layers can be among.
  Statistics statistics(const Requirements& requirements) const;

  /// Both at once: statistics of what passes in the layer while the walk goes through it. `after_batch(tokens)`, which
  /// may be empty, is told of each batch.
  Statistics advance_measured(const Requirements& requirements,
                              const std::function<void(std::int64_t)>& after_batch = {});

  /// Goes through the layer as it now is, and gives back the pages of its weights where these are views of files.
  /// `see`, if given, is told of what `tap` shows, as by observe(), in the same run.
  void advance() { advance(std::vector<Tap>(), {}); }
  void advance(Tap tap, const See& see);
  /// Goes through the layer, of whose attention it is known already what it adds to states(): the other half alone is
  /// run. `attention`: by batch. Not where layers behind read what attention hands on: see hands_on().
  void advance_behind(const std::vector<at::Tensor>& attention);
  bool hands_on() const;

  /// As advance(tap, see), of several taps, in the order in which a forward pass comes by them.
  using SeeTaps = std::function<void(std::size_t batch, Tap tap, const at::Tensor& tensor)>;
  void advance(const std::vector<Tap>& taps, const SeeTaps& see);

 private:
  void leave();
  at::Tensor run(std::size_t batch, ForwardContext& context) const;

  const Decoder& decoder_;
  std::vector<at::Tensor> states_;
  std::vector<ForwardContext> contexts_;
  std::string rows_hash_;
  std::int64_t layer_ = 0;
};

}  // namespace mla
