#include "core/train/loss.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>

#include "core/base/checks.h"
#include "core/base/error.h"
#include "core/ops/matrix_product.h"
#include "core/ops/soft_cap.h"
#include "core/ops/softmax_loss.h"

namespace mla {
namespace {

void check_teacher(const Decoder& decoder, const LossOptions& options, const Decoder* teacher) {
  if (!options.needs_teacher()) return;
  expects(teacher != nullptr, "this loss needs a teacher");
  if (teacher->spec().vocabulary != decoder.spec().vocabulary) {
    throw ConfigError(cat("loss: the teacher has a vocabulary of ", teacher->spec().vocabulary, ", the model of ",
                          decoder.spec().vocabulary));
  }
  if (options.hidden_state > 0 && teacher->spec().hidden != decoder.spec().hidden) {
    throw ConfigError(cat("loss.hidden_state: the teacher's hidden states have ", teacher->spec().hidden,
                          " elements, the model's ", decoder.spec().hidden));
  }
}

/// The scored positions of a batch and what comes after them.
struct Scored {
  at::Tensor positions, targets;
  at::Tensor select(const at::Tensor& hidden) const { return hidden.flatten(0, 1).index_select(0, positions); }
};

/// They are counted where the batch was made: nothing waits for the model's device.
Scored scored_positions(const Batch& batch, const at::Device& device) {
  const at::Tensor targets = batch.targets.flatten();
  const at::Tensor positions = targets.ne(kIgnoredTarget).nonzero().flatten();
  const at::TensorOptions there = at::device(device);
  return {positions.to(there, /*non_blocking=*/true),
          targets.index_select(0, positions).to(there, /*non_blocking=*/true)};
}

void add_product(at::Tensor& gradient, const at::Tensor& a, const at::Tensor& b) {
  if (gradient.defined()) {
    add_matrix_product(gradient, a, b);
  } else {
    gradient = matrix_product(a, b);
  }
}

/// Losses on logits: adds to the output matrix's gradient, writes that of the hidden states, returns the sum.
at::Tensor logit_losses(const Decoder& decoder, const Decoder* teacher, const at::Tensor& hidden,
                        const at::Tensor& teacher_hidden, const at::Tensor& targets, const LossOptions& options,
                        double scale, std::int64_t chunk, const at::Tensor& gradient) {
  const ProductsScope scope(decoder.products);
  const SoftmaxLoss loss{options.cross_entropy, options.distillation, options.temperature};
  const at::Tensor matrix = decoder.output_map().matrix_for(hidden).detach(), trained = decoder.output_map().trained();
  const double cap = decoder.spec().logit_cap;
  at::Tensor sum = at::zeros({}, hidden.options().dtype(at::kDouble));
  for (std::int64_t begin = 0; begin < hidden.size(0); begin += chunk) {
    const std::int64_t size = std::min(chunk, hidden.size(0) - begin);
    const at::Tensor part = hidden.narrow(0, begin, size);
    at::Tensor logits = matrix_product(part, matrix.t()), reference, slope, into = gradient.narrow(0, begin, size);
    if (cap > 0) {
      logits = soft_capped(logits, cap);
      slope = soft_cap_slope(logits, cap);
    }
    if (options.distillation > 0)
      reference = teacher->logits(teacher_hidden.narrow(0, begin, size)).to(logits.scalar_type());
    sum.add_(softmax_loss_gradient(logits, targets.narrow(0, begin, size), reference, loss, scale));
    if (cap > 0) logits.mul_(slope);
    into.copy_(matrix_product(logits, matrix));
    if (trained.defined()) add_product(trained.mutable_grad(), logits.t(), part);
  }
  return sum;
}

/// Relative squared distance of hidden states; adds to their gradient, returns the sum.
at::Tensor hidden_state_loss(const at::Tensor& hidden, const at::Tensor& teacher_hidden, double weight, double scale,
                             const at::Tensor& gradient) {
  const auto wide = hidden.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  const at::Tensor reference = teacher_hidden.to(wide), difference = hidden.to(wide) - reference;
  const at::Tensor factor = reference.square().sum(1, true).reciprocal();
  gradient.add_(difference * factor, 2 * weight * scale);
  return (difference.square() * factor).sum(at::kDouble) * weight;
}

}  // namespace

void LossOptions::validate(const std::string& path) const {
  check_not_negative(path + ".cross_entropy", cross_entropy);
  check_not_negative(path + ".distillation", distillation);
  check_not_negative(path + ".hidden_state", hidden_state);
  if (!(cross_entropy > 0 || needs_teacher())) throw ConfigError(cat(path, ": every weight is 0"));
  if (!(std::isfinite(temperature) && temperature > 0)) {
    throw ConfigError(cat(path, ".temperature: ", temperature, " is not a number > 0"));
  }
}

at::Tensor accumulate_gradients(const Decoder& decoder, const Batch& batch, double scale, const LossOptions& options,
                                const Decoder* teacher, std::int64_t logit_elements) {
  check_teacher(decoder, options, teacher);
  const at::Device device = decoder.device();
  const auto there = [&](const at::Tensor& tensor) {
    return tensor.defined() ? tensor.to(at::device(device), /*non_blocking=*/true) : tensor;
  };
  const at::Tensor ids = there(batch.ids), documents = there(batch.documents);
  const Scored scored = scored_positions(batch, device);
  at::Tensor output, teacher_hidden;
  if (options.needs_teacher()) {
    const at::NoGradGuard no_gradients;
    teacher_hidden = scored.select(teacher->hidden_states(ids, documents));
  }
  {
    const at::AutoGradMode with_gradients(true);
    output = scored.select(decoder.hidden_states(ids, documents));
  }
  const at::NoGradGuard no_gradients;
  const at::Tensor hidden = output.detach(), gradient = at::zeros_like(hidden);
  at::Tensor sum = at::zeros({}, hidden.options().dtype(at::kDouble));
  if (options.cross_entropy > 0 || options.distillation > 0) {
    const std::int64_t chunk = std::max<std::int64_t>(1, logit_elements / decoder.spec().vocabulary);
    sum.add_(logit_losses(decoder, teacher, hidden, teacher_hidden, scored.targets, options, scale, chunk, gradient));
  }
  if (options.hidden_state > 0)
    sum.add_(hidden_state_loss(hidden, teacher_hidden, options.hidden_state, scale, gradient));
  if (output.requires_grad()) output.backward(gradient);
  return sum;
}

}  // namespace mla
