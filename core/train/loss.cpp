#include "core/train/loss.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <vector>

namespace mla {

double accumulate_gradients(const Decoder& decoder, const Batch& batch, double scale, std::int64_t logit_elements) {
  const at::AutoGradMode with_gradients(true);
  const at::Device device = decoder.embedding.device();
  const at::Tensor hidden = decoder.hidden_states(batch.ids.to(device));
  const at::Tensor all_targets = batch.targets.to(device).flatten();
  const at::Tensor positions = all_targets.ne(kIgnoredTarget).nonzero().flatten();
  const at::Tensor scored = hidden.flatten(0, 1).index_select(0, positions);
  const at::Tensor targets = all_targets.index_select(0, positions);

  const std::int64_t count = scored.size(0),
                     chunk = std::max<std::int64_t>(1, logit_elements / decoder.geometry.vocabulary);
  at::Tensor total = at::zeros({}, scored.options().dtype(at::kDouble).requires_grad(false));
  std::vector<at::Tensor> gradients;
  for (std::int64_t begin = 0; begin < count; begin += chunk) {
    const std::int64_t size = std::min(chunk, count - begin);
    const at::Tensor part = scored.detach().narrow(0, begin, size).requires_grad_(true);
    const at::Tensor loss =
        at::cross_entropy_loss(decoder.logits(part), targets.narrow(0, begin, size), {}, at::Reduction::Sum);
    (loss * scale).backward();
    total += loss.detach();
    gradients.push_back(part.grad());
  }
  if (scored.requires_grad()) scored.backward(at::cat(gradients));
  return total.item<double>();
}

}  // namespace mla
