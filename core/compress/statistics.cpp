#include "core/compress/statistics.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <vector>

#include "core/base/error.h"
#include "core/compress/gathering.h"
#include "core/ops/softmax_loss.h"

namespace mla {
namespace {

/// Weights do not record gradients; what the taps show does. Backward from each row's loss, the sum of -log p of its
/// tokens after the first; logits of one row at a time.
void backward(const Decoder& decoder, const at::Tensor& ids, const at::Tensor& states) {
  expects(!decoder.embedding.trained().defined(), "a model is not calibrated while it is trained");
  at::Tensor gradient = at::zeros_like(states);
  {
    const at::NoGradGuard off;
    const Linear& output = decoder.output.defined() ? decoder.output : decoder.embedding;
    for (std::int64_t row = 0; row < ids.size(0); ++row) {
      const std::int64_t predicted = ids.size(1) - 1;
      at::Tensor logits = decoder.logits(states[row].narrow(0, 0, predicted)).contiguous();
      softmax_loss_gradient(logits, ids[row].narrow(0, 1, predicted).contiguous(), {}, {}, 1.0);
      gradient[row].narrow(0, 0, predicted).copy_(at::mm(logits, output.matrix_for(logits)));
    }
  }
  states.backward(gradient);
}

}  // namespace

at::Tensor Statistics::at(const Requirement& requirement, std::int64_t layer) const {
  const auto found = values.find({requirement, layer});
  if (found != values.end()) return found->second;
  expects(covers({requirement}), cat("calibration gathered ", requirement.name()));
  return {};
}

bool Statistics::covers(const Requirements& requirements) const {
  return std::all_of(requirements.begin(), requirements.end(), [&](const Requirement& requirement) {
    return std::any_of(values.begin(), values.end(),
                       [&](const auto& entry) { return entry.first.first == requirement; });
  });
}

Statistics calibrate(const Decoder& decoder, const TokenRowList& rows, const Requirements& requirements,
                     const CalibrationOptions& options, const std::function<void(std::int64_t)>& progress) {
  const std::vector<at::Tensor> batches = calibration_batches(rows, decoder.spec().vocabulary, options);
  Gathering gathering(requirements);
  const c10::InferenceMode inference(!gathering.gradients());
  Statistics statistics;
  statistics.rows_hash = hash_rows(rows);
  for (const at::Tensor& batch : batches) {
    const at::Tensor ids = batch.to(decoder.device());
    const at::AutoGradMode record(gathering.gradients());
    const at::Tensor states = decoder.observe(ids, gathering.observer());
    if (gathering.gradients() && ids.size(1) > 1) backward(decoder, ids, states);
    gathering.end_batch();
    statistics.tokens += ids.numel();
    if (progress) progress(ids.numel());
  }
  gathering.finish(statistics);
  return statistics;
}

}  // namespace mla
