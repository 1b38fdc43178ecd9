#include "core/compress/calibration/layer_walk.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "core/base/error.h"
#include "core/compress/calibration/gathering.h"
#include "core/model/weight_pages.h"

namespace mla {

LayerWalk::LayerWalk(const Decoder& decoder, const TokenRowList& rows, const CalibrationOptions& options)
    : decoder_(decoder), rows_hash_(hash_rows(rows)) {
  const at::NoGradGuard off;
  for (const at::Tensor& ids : calibration_batches(rows, decoder.spec().vocabulary, options)) {
    states_.push_back(decoder.embed(ids.to(decoder.device())));
    contexts_.push_back(decoder.context(ids.size(1)));
  }
}

at::Tensor LayerWalk::run(std::size_t batch, ForwardContext& context) const {
  const at::NoGradGuard off;
  return decoder_.apply_layer(static_cast<std::size_t>(layer_), states_.at(batch), context);
}

void LayerWalk::observe(Tap tap, const See& see) const {
  for (std::size_t batch = 0; batch < states_.size(); ++batch) {
    const Observer observer{{tap}, [&](Tap, std::int64_t, const at::Tensor& tensor) { see(batch, tensor); }};
    ForwardContext context = contexts_[batch];  // what the layer hands on is handed on when the walk goes through it
    context.observer = &observer;
    if (tap > Tap::kAttentionOutput) {
      run(batch, context);
    } else {
      const at::NoGradGuard off;
      decoder_.attention_half(static_cast<std::size_t>(layer_), states_[batch], context);
    }
  }
}

Statistics LayerWalk::statistics(const Requirements& requirements) const {
  Gathering gathering(requirements);
  expects(!gathering.gradients() && !gathering.spans_layers(), "statistics of one layer");
  Statistics statistics;
  statistics.rows_hash = rows_hash_;
  for (std::size_t batch = 0; batch < states_.size(); ++batch) {
    ForwardContext context = contexts_[batch];
    context.observer = &gathering.observer();
    run(batch, context);
    gathering.end_batch();
    statistics.tokens += states_[batch].size(0) * states_[batch].size(1);
  }
  gathering.finish(statistics);
  return statistics;
}

void LayerWalk::advance(Tap tap, const See& see) {
  advance(std::vector<Tap>{tap}, [&](std::size_t batch, Tap, const at::Tensor& tensor) { see(batch, tensor); });
}

Statistics LayerWalk::advance_measured(const Requirements& requirements,
                                       const std::function<void(std::int64_t)>& after_batch) {
  expects(!done(), "a walk ends after the last layer");
  Gathering gathering(requirements);
  expects(!gathering.gradients() && !gathering.spans_layers(), "statistics of one layer");
  Statistics statistics;
  statistics.rows_hash = rows_hash_;
  for (std::size_t batch = 0; batch < states_.size(); ++batch) {
    const std::int64_t tokens = states_[batch].size(0) * states_[batch].size(1);
    contexts_[batch].observer = &gathering.observer();
    states_[batch] = run(batch, contexts_[batch]);
    contexts_[batch].observer = nullptr;
    gathering.end_batch();
    statistics.tokens += tokens;
    if (after_batch) after_batch(tokens);
  }
  gathering.finish(statistics);
  leave();
  return statistics;
}

void LayerWalk::advance(const std::vector<Tap>& taps, const SeeTaps& see) {
  expects(!done(), "a walk ends after the last layer");
  for (std::size_t batch = 0; batch < states_.size(); ++batch) {
    const Observer observer{taps, [&](Tap tap, std::int64_t, const at::Tensor& tensor) { see(batch, tap, tensor); }};
    if (!taps.empty()) contexts_[batch].observer = &observer;
    states_[batch] = run(batch, contexts_[batch]);
    contexts_[batch].observer = nullptr;
  }
  leave();
}

bool LayerWalk::hands_on() const { return !wanted_slots(decoder_.spec()).at(static_cast<std::size_t>(layer_)).empty(); }

void LayerWalk::advance_behind(const std::vector<at::Tensor>& attention) {
  expects(!done() && !hands_on(), "a layer that hands nothing on");
  const at::NoGradGuard off;
  for (std::size_t batch = 0; batch < states_.size(); ++batch)
    states_[batch] = decoder_.feed_forward_half(static_cast<std::size_t>(layer_), states_[batch], attention.at(batch),
                                                contexts_[batch]);
  leave();
}

/// Behind the layer, which all batches have gone through.
void LayerWalk::leave() {
  const std::vector<std::size_t> groups = group_boundaries(decoder_.spec());
  const auto next = static_cast<std::size_t>(layer_) + 1;
  if (std::find(groups.begin(), groups.end(), next) != groups.end()) {
    for (ForwardContext& context : contexts_) context.slots.clear();  // hands nothing on
  }
  release_layer(decoder_, layer_);
  ++layer_;
}

}  // namespace mla
