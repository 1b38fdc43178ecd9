#include "core/evaluate/token_nll.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "core/ops/softmax_loss.h"

namespace mla {

namespace {

/// What losses are held in: narrower hidden states do not narrow them.
at::TensorOptions loss_options(const at::Tensor& hidden) {
  return hidden.options().dtype(hidden.scalar_type() == at::kDouble ? at::kDouble : at::kFloat);
}

/// Calls work(logits, targets, begin) for a chunk of rows at a time.
template <class Work>
void for_logits(const Decoder& decoder, const at::Tensor& rows, const at::Tensor& targets, std::int64_t logit_elements,
                const Work& work) {
  const std::int64_t chunk = std::max<std::int64_t>(1, logit_elements / decoder.spec().vocabulary);
  for (std::int64_t begin = 0; begin < rows.size(0); begin += chunk) {
    const std::int64_t size = std::min(chunk, rows.size(0) - begin);
    work(decoder.logits(rows.narrow(0, begin, size)), targets.narrow(0, begin, size), begin);
  }
}

}  // namespace

at::Tensor target_nll(const Decoder& decoder, const at::Tensor& hidden, const at::Tensor& targets,
                      std::int64_t logit_elements) {
  const at::NoGradGuard no_grad;
  const at::Tensor rows = hidden.reshape({-1, hidden.size(-1)});
  at::Tensor nll = at::empty({rows.size(0)}, loss_options(rows));
  for_logits(decoder, rows, targets.reshape({-1}), logit_elements,
             [&](const at::Tensor& logits, const at::Tensor& wanted, std::int64_t begin) {
               nll.narrow(0, begin, wanted.size(0)).copy_(softmax_nll(logits, wanted));
             });
  return nll.view(targets.sizes());
}

TargetScores target_scores(const Decoder& decoder, const at::Tensor& hidden, const at::Tensor& targets,
                           std::int64_t logit_elements) {
  const at::NoGradGuard no_grad;
  const at::Tensor rows = hidden.reshape({-1, hidden.size(-1)});
  TargetScores scores{at::empty({rows.size(0)}, loss_options(rows)),
                      at::empty({rows.size(0)}, rows.options().dtype(at::kBool))};
  for_logits(decoder, rows, targets.reshape({-1}), logit_elements,
             [&](const at::Tensor& logits, const at::Tensor& wanted, std::int64_t begin) {
               const at::Tensor own = logits.gather(1, wanted.unsqueeze(1));
               scores.nll.narrow(0, begin, wanted.size(0)).copy_(softmax_nll(logits, wanted));
               scores.likeliest.narrow(0, begin, wanted.size(0)).copy_(own.eq(logits.amax(1, true)).squeeze(1));
             });
  return {scores.nll.view(targets.sizes()), scores.likeliest.view(targets.sizes())};
}

at::Tensor token_nll(const Decoder& decoder, const at::Tensor& ids) {
  const at::NoGradGuard no_grad;
  const std::int64_t predicted = ids.size(1) - 1;
  if (predicted < 1) {
    const at::Tensor none = at::empty({ids.size(0), 0}, decoder.options());
    return none.to(loss_options(none));
  }
  // The last token is fed too, though nothing is predicted after it: dynamic frequencies depend on the whole length.
  return target_nll(decoder, decoder.hidden_states(ids).narrow(1, 0, predicted), ids.narrow(1, 1, predicted));
}

}  // namespace mla
