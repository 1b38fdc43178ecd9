#include "core/serve/compare_models.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "core/base/error.h"

namespace mla {
namespace {

at::Tensor stepwise_logits(const Decoder& decoder, const at::Tensor& ids) {
  DecoderCache cache = decoder.make_cache(ids.size(0));
  std::vector<at::Tensor> logits;
  for (std::int64_t i = 0; i < ids.size(1); ++i) logits.push_back(decoder.forward_cached(ids.narrow(1, i, 1), cache));
  return at::stack(logits, 1);
}

}  // namespace

ModelComparison compare_models(const Decoder& written, const Decoder& model, const at::Tensor& ids) {
  const c10::InferenceMode guard;
  if (written.spec().vocabulary != model.spec().vocabulary)
    throw DataError(cat("the written model has ", written.spec().vocabulary, " tokens and --model ",
                        model.spec().vocabulary, ": it was written from another model"));
  const at::Tensor own = model.forward(ids).to(at::kFloat), theirs = written.forward(ids).to(at::kFloat);
  const at::Tensor steps = stepwise_logits(written, ids).to(at::kFloat);
  const double deviation = std::max(own.std().item<double>(), 1e-30);
  ModelComparison found;
  found.tokens = ids.numel();
  found.largest = (theirs - own).abs().max().item<double>() / deviation;
  found.rms = (theirs - own).square().mean().sqrt().item<double>() / deviation;
  found.stepwise = (steps - theirs).abs().max().item<double>() / deviation;
  found.same_choice = theirs.argmax(-1).eq(own.argmax(-1)).to(at::kDouble).mean().item<double>();
  found.cached = cached_elements(written.spec());
  found.cached_by_model = cached_elements(model.spec());
  return found;
}

std::vector<std::int64_t> greedy_tokens(const Decoder& decoder, const at::Tensor& ids, std::int64_t count) {
  const c10::InferenceMode guard;
  DecoderCache cache = decoder.make_cache(1);
  std::vector<std::int64_t> all;
  at::Tensor next = ids.unsqueeze(0);
  for (std::int64_t i = 0; i < count; ++i) {
    next = decoder.forward_cached(next, cache).argmax(-1, true);
    all.push_back(next.item<std::int64_t>());
  }
  return all;
}

}  // namespace mla
