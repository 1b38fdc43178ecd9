#include "core/evaluate/divergence.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/base/error.h"
#include "core/evaluate/divergence_rows.h"

namespace mla {
namespace {

constexpr double kCodeOffset = 32768, kSteps = 65535;

using Sequences = std::vector<std::vector<std::int32_t>>;
using Models = std::vector<const Decoder*>;

/// Runs all models over the windows. work(logits, targets, places) sees a few scored tokens at a time: logits
/// [rows, vocabulary] of each model, targets and places int64 [rows], all on the models' own device but `places`.
template <class Work>
void for_scored_tokens(const Models& models, const WindowPlan& plan, const PerplexityOptions& options,
                       const TokenProgress& progress, const Work& work) {
  const std::int64_t chunk = logit_rows(models.front()->spec().vocabulary);
  std::span<const Window> left = plan.windows;
  while (!left.empty()) {
    std::size_t count = left.size();
    for (const Decoder* model : models) count = std::min(count, windows_together(*model, left, options.batch_tokens));
    const at::Tensor ids = window_ids(left.first(count));
    const ScoredTokens scored = scored_tokens(left.first(count), ids.size(1));
    const at::Tensor targets = at::tensor(scored.tokens, at::kLong), places = at::tensor(scored.places, at::kLong);
    std::vector<at::Tensor> states;
    for (const Decoder* model : models) {
      const auto device = model->device();
      const at::Tensor hidden = model->hidden_states(ids.to(device));
      states.push_back(
          hidden.reshape({-1, hidden.size(2)}).index_select(0, at::tensor(scored.rows, at::kLong).to(device)));
    }
    for (std::int64_t begin = 0; begin < targets.size(0); begin += chunk) {
      const std::int64_t size = std::min(chunk, targets.size(0) - begin);
      std::vector<at::Tensor> logits;
      for (std::size_t i = 0; i < models.size(); ++i)
        logits.push_back(models[i]->logits(states[i].narrow(0, begin, size)));
      work(logits, targets.narrow(0, begin, size).to(logits.back().device()), places.narrow(0, begin, size));
    }
    if (progress) progress(std::ssize(scored.tokens));
    left = left.subspan(count);
  }
}

WindowPlan plan_for(const Sequences& sequences, const PerplexityOptions& options) {
  options.validate("divergence");
  return plan_windows(sequences, options.context, options.stride.value_or(options.context), "divergence");
}

void expect_vocabulary(std::int64_t source, std::int64_t model) {
  if (source == model) return;
  throw DataError(cat("the source model has ", source, " tokens and the model ", model,
                      ": only models of one vocabulary can be compared"));
}

/// log p of kept tokens, double [rows, kept].
at::Tensor decode(const StoredDistributions& stored, const at::Tensor& places) {
  const auto column = [&](const at::Tensor& x) { return x.index_select(0, places).to(at::kDouble).unsqueeze(1); };
  return column(stored.largest) -
         column(stored.step) * (stored.codes.index_select(0, places).to(at::kDouble) + kCodeOffset);
}

/// sum p (d - 1) + q over entries, which is KL where p and q are whole; see core/ops/softmax_divergence.h. Where p is
/// rounded, its error counts only as much as p and q differ.
at::Tensor summed(const at::Tensor& log_p, const at::Tensor& log_q) {
  const at::Tensor p = log_p.exp(), d = log_p - log_q;
  const at::Tensor terms = at::where(d.abs().lt(1), p * (d + at::expm1(-d.clamp(-1, 1))), p * (d - 1) + log_q.exp());
  return at::where(p.eq(0), log_q.exp(), terms).sum(1);
}

void compare_stored(const StoredDistributions& stored, const at::Tensor& logits, const at::Tensor& targets,
                    const at::Tensor& places, TokenDivergence& result) {
  const at::Tensor log_q = logits.to(at::kCPU, at::kDouble).log_softmax(1), log_p = decode(stored, places);
  at::Tensor kl;
  if (stored.whole()) {
    kl = summed(log_p, log_q);
  } else {
    const at::Tensor ids = stored.ids.index_select(0, places).to(at::kLong);
    const at::Tensor rest = log_q.scatter(1, ids, -std::numeric_limits<double>::infinity()).logsumexp(1, true);
    const at::Tensor tail = stored.tail.index_select(0, places).to(at::kDouble).log().unsqueeze(1);
    kl = summed(at::cat({log_p, tail}, 1), at::cat({log_q.gather(1, ids), rest}, 1));
  }
  put(kl, places, result.kl);
  put(stored.target_nll.index_select(0, places), places, result.source_nll);
  put(-log_q.gather(1, targets.to(at::kCPU).unsqueeze(1)).squeeze(1), places, result.nll);
  put(stored.likeliest.index_select(0, places).eq(log_q.argmax(1)), places, result.agrees);
}

/// Fills the rows `places` from logits.
void store(const at::Tensor& logits, const at::Tensor& targets, const at::Tensor& places, StoredDistributions& to) {
  const at::Tensor log_p = logits.to(at::kCPU, at::kDouble).log_softmax(1);
  at::Tensor kept = log_p;
  if (!to.whole()) {
    const auto [values, ids] = log_p.topk(to.kept(), 1);
    kept = values;
    to.ids.index_copy_(0, places, ids.to(at::kInt));
    to.tail.index_copy_(
        0, places, log_p.scatter(1, ids, -std::numeric_limits<double>::infinity()).logsumexp(1).exp().to(at::kFloat));
  }
  // The scale is rounded first: codes belong to the scale as it is stored.
  const at::Tensor largest = kept.amax(1).to(at::kFloat);
  const at::Tensor step = ((largest.to(at::kDouble) - kept.amin(1)) / kSteps).to(at::kFloat);
  const at::Tensor divisor = step.to(at::kDouble).clamp_min(std::numeric_limits<double>::min()).unsqueeze(1);
  const at::Tensor codes =
      ((largest.to(at::kDouble).unsqueeze(1) - kept) / divisor).round().clamp(0, kSteps) - kCodeOffset;
  to.likeliest.index_copy_(0, places, log_p.argmax(1).to(at::kInt));
  to.largest.index_copy_(0, places, largest);
  to.step.index_copy_(0, places, step);
  to.codes.index_copy_(0, places, codes.to(at::kShort));
  to.target_nll.index_copy_(0, places, -log_p.gather(1, targets.to(at::kCPU).unsqueeze(1)).squeeze(1).to(at::kFloat));
}

void expect_same_text(const StoredDistributions& stored, const WindowPlan& plan, const Sequences& sequences,
                      const PerplexityOptions& options) {
  const std::int64_t stride = options.stride.value_or(options.context);
  if (stored.context != options.context || stored.stride != stride) {
    throw DataError(cat("the source's distributions were stored for windows of ", stored.context,
                        " tokens at a stride of ", stored.stride, ", not ", options.context, " at ", stride));
  }
  if (stored.text_hash != hash_tokens(sequences) || stored.tokens() != plan.scored) {
    throw DataError(cat("the source's distributions were stored for another text: ", stored.tokens(),
                        " scored tokens, this one has ", plan.scored,
                        stored.tokens() == plan.scored ? ", and other ids" : ""));
  }
}

}  // namespace

TokenDivergence divergence(const Decoder& source, const Decoder& model, const Sequences& sequences,
                           const PerplexityOptions& options, const TokenProgress& progress) {
  const at::NoGradGuard no_grad;
  expect_vocabulary(source.spec().vocabulary, model.spec().vocabulary);
  const WindowPlan plan = plan_for(sequences, options);
  TokenDivergence result = room_for(plan, options.context);
  for_scored_tokens({&source, &model}, plan, options, progress,
                    [&](const std::vector<at::Tensor>& logits, const at::Tensor& targets, const at::Tensor& places) {
                      put(softmax_divergence(logits[0].to(targets.device()), logits[1], targets), places, result);
                    });
  return result;
}

TokenDivergence divergence(const StoredDistributions& source, const Decoder& model, const Sequences& sequences,
                           const PerplexityOptions& options, const TokenProgress& progress) {
  const at::NoGradGuard no_grad;
  expect_vocabulary(source.vocabulary, model.spec().vocabulary);
  const WindowPlan plan = plan_for(sequences, options);
  expect_same_text(source, plan, sequences, options);
  TokenDivergence result = room_for(plan, options.context);
  for_scored_tokens({&model}, plan, options, progress,
                    [&](const std::vector<at::Tensor>& logits, const at::Tensor& targets, const at::Tensor& places) {
                      compare_stored(source, logits.front(), targets, places, result);
                    });
  return result;
}

StoredDistributions store_distributions(const Decoder& source, const Sequences& sequences,
                                        const PerplexityOptions& options, std::int64_t kept,
                                        const TokenProgress& progress) {
  const at::NoGradGuard no_grad;
  const WindowPlan plan = plan_for(sequences, options);
  const std::int64_t vocabulary = source.spec().vocabulary, width = kept < 1 ? vocabulary : std::min(kept, vocabulary);
  const auto make = [&](std::vector<std::int64_t> shape, at::ScalarType type) { return at::zeros(shape, type); };
  StoredDistributions stored{vocabulary,
                             options.context,
                             options.stride.value_or(options.context),
                             hash_tokens(sequences),
                             "",
                             {},
                             make({plan.scored, width}, at::kShort),
                             make({plan.scored}, at::kFloat),
                             make({plan.scored}, at::kFloat),
                             {},
                             make({plan.scored}, at::kInt),
                             make({plan.scored}, at::kFloat)};
  if (width < vocabulary) {
    stored.ids = make({plan.scored, width}, at::kInt);
    stored.tail = make({plan.scored}, at::kFloat);
  }
  for_scored_tokens({&source}, plan, options, progress,
                    [&](const std::vector<at::Tensor>& logits, const at::Tensor& targets, const at::Tensor& places) {
                      store(logits.front(), targets, places, stored);
                    });
  return stored;
}

}  // namespace mla
