#include "core/compress/calibration/statistics.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <vector>

#include "core/base/error.h"
#include "core/compress/calibration/gathering.h"
#include "core/compress/calibration/loss_gradients.h"

namespace mla {

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
    if (gathering.gradients() && ids.size(1) > 1) {
      expects(!decoder.embedding.trained().defined(), "a model is not calibrated while it is trained");
      backward_from_losses(decoder, ids, states);
    }
    gathering.end_batch();
    statistics.tokens += ids.numel();
    if (progress) progress(ids.numel());
  }
  gathering.finish(statistics);
  return statistics;
}

}  // namespace mla
