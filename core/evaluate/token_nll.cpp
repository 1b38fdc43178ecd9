#include "core/evaluate/token_nll.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>

namespace mla {

at::Tensor target_nll(const Decoder& decoder, const at::Tensor& hidden, const at::Tensor& targets,
                      std::int64_t logit_elements) {
  const at::NoGradGuard no_grad;
  const at::Tensor rows = hidden.reshape({-1, hidden.size(-1)}), wanted = targets.reshape({-1});
  at::Tensor nll = at::empty({rows.size(0)}, rows.options());
  const std::int64_t chunk = std::max<std::int64_t>(1, logit_elements / decoder.geometry.vocabulary);
  for (std::int64_t begin = 0; begin < rows.size(0); begin += chunk) {
    const std::int64_t size = std::min(chunk, rows.size(0) - begin);
    nll.narrow(0, begin, size)
        .copy_(at::cross_entropy_loss(decoder.logits(rows.narrow(0, begin, size)), wanted.narrow(0, begin, size), {},
                                      at::Reduction::None));
  }
  return nll.view(targets.sizes());
}

at::Tensor token_nll(const Decoder& decoder, const at::Tensor& ids) {
  const at::NoGradGuard no_grad;
  const std::int64_t predicted = ids.size(1) - 1;
  if (predicted < 1) return at::empty({ids.size(0), 0}, decoder.embedding.options().dtype(decoder.compute_dtype));
  // The last token is fed too, though nothing is predicted after it: dynamic frequencies depend on the whole length.
  return target_nll(decoder, decoder.hidden_states(ids).narrow(1, 0, predicted), ids.narrow(1, 1, predicted));
}

}  // namespace mla
