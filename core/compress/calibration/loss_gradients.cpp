#include "core/compress/calibration/loss_gradients.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "core/base/error.h"
#include "core/ops/soft_cap.h"
#include "core/ops/softmax_loss.h"

namespace mla {
namespace {

constexpr const char* kInLayers = "model.layers.";

/// A copy whose layers' matrices record gradients, in the type that is computed in; by whole names without ".weight".
Decoder recording_copy(const Decoder& decoder, TensorMap& matrices) {
  Decoder copy = decoder.clone();
  copy.checkpoint_activations = false;
  copy.visit_weights({[&](const std::string& name, Linear& map) {
                        if (!name.starts_with(kInLayers)) return;
                        expects(!map.storage(), "gradients are taken by dense matrices");
                        map.visit(name, [&](const std::string& parameter, at::Tensor& tensor) {
                          if (parameter != name + ".weight") return;
                          tensor = tensor.to(copy.compute_dtype).requires_grad_(true);
                          matrices[name] = tensor;
                        });
                      },
                      [](const std::string&, at::Tensor&) {}});
  return copy;
}

}  // namespace

void backward_from_losses(const Decoder& decoder, const at::Tensor& ids, const at::Tensor& states) {
  at::Tensor gradient = at::zeros_like(states);
  {
    const at::NoGradGuard off;
    const Linear& output = decoder.output_map();
    const double cap = decoder.spec().logit_cap;
    for (std::int64_t row = 0; row < ids.size(0); ++row) {
      const std::int64_t predicted = ids.size(1) - 1;
      at::Tensor logits = decoder.logits(states[row].narrow(0, 0, predicted)).contiguous(), slope;
      if (cap > 0) slope = soft_cap_slope(logits, cap);
      softmax_loss_gradient(logits, ids[row].narrow(0, 1, predicted).contiguous(), {}, {}, 1.0);
      if (cap > 0) logits.mul_(slope);
      gradient[row].narrow(0, 0, predicted).copy_(at::mm(logits, output.matrix_for(logits)));
    }
  }
  states.backward(gradient);
}

void for_row_gradients(const Decoder& decoder, const TokenRowList& rows, const SeeRowGradients& see) {
  const c10::InferenceMode off(false);
  const at::AutoGradMode record(true);
  TensorMap matrices;
  const Decoder copy = recording_copy(decoder, matrices);
  bool any = false;
  for (const at::Tensor& batch : calibration_batches(rows, decoder.spec().vocabulary, {.batch_tokens = 1})) {
    if (batch.size(1) < 2) continue;
    const at::Tensor ids = batch.to(copy.device());
    backward_from_losses(copy, ids, copy.hidden_states(ids));
    TensorMap gradients;
    for (auto& [name, matrix] : matrices) {
      gradients[name] = matrix.grad().defined() ? matrix.grad().detach() : at::zeros_like(matrix.detach());
      matrix.mutable_grad().reset();
    }
    const at::NoGradGuard no_grad;
    see(ids.size(1) - 1, gradients);
    any = true;
  }
  if (!any) throw DataError("calibration: no row has two tokens or more, of which one predicts the other");
}

}  // namespace mla
