#include "core/evaluate/layer_divergence.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "core/attention/projection.h"
#include "core/base/error.h"
#include "core/evaluate/divergence_rows.h"
#include "core/ops/rms_norm.h"

namespace mla {
namespace {

/// The states [rows, hidden] that predict the scored tokens: first of the source, then with each layer exchanged.
std::vector<at::Tensor> predicting_states(const Decoder& source, const Decoder& converted, const at::Tensor& ids,
                                          const at::Tensor& rows) {
  const RotaryTable rotary = source.rotary_table(0, ids.size(1), ids.size(1));
  const auto finish = [&](const at::Tensor& x) {
    const at::Tensor scored = x.reshape({-1, x.size(2)}).index_select(0, rows);
    return rms_norm(scored, matching(source.final_norm, scored), source.geometry.norm_epsilon);
  };
  std::vector<at::Tensor> inputs = {source.embed(ids)};
  for (std::size_t i = 0; i < source.layers.size(); ++i)
    inputs.push_back(source.apply_layer(i, inputs.back(), rotary, {}));
  std::vector<at::Tensor> states = {finish(inputs.back())};
  for (std::size_t i = 0; i < source.layers.size(); ++i) {
    at::Tensor x = converted.apply_layer(i, inputs[i], rotary, {});
    for (std::size_t above = i + 1; above < source.layers.size(); ++above) x = source.apply_layer(above, x, rotary, {});
    states.push_back(finish(x));
  }
  return states;
}

}  // namespace

std::vector<TokenDivergence> layer_divergence(const Decoder& source, const Decoder& converted,
                                              const std::vector<std::vector<std::int32_t>>& sequences,
                                              const PerplexityOptions& options, const TokenProgress& progress) {
  const at::NoGradGuard no_grad;
  options.validate("divergence");
  expects(source.layers.size() == converted.layers.size(), "both models have the same layers");
  const WindowPlan plan =
      plan_windows(sequences, options.context, options.stride.value_or(options.context), "divergence");
  std::vector<TokenDivergence> result(source.layers.size(), room_for(plan, options.context));
  const std::int64_t chunk = logit_rows(source.geometry.vocabulary);
  const auto device = source.embedding.device();
  std::span<const Window> left = plan.windows;
  while (!left.empty()) {
    const std::size_t count = windows_together(source, left, options.batch_tokens);
    const at::Tensor ids = window_ids(left.first(count));
    const ScoredTokens scored = scored_tokens(left.first(count), ids.size(1));
    const at::Tensor targets = at::tensor(scored.tokens, at::kLong).to(device),
                     places = at::tensor(scored.places, at::kLong);
    const auto states =
        predicting_states(source, converted, ids.to(device), at::tensor(scored.rows, at::kLong).to(device));
    for (std::int64_t begin = 0; begin < targets.size(0); begin += chunk) {
      const std::int64_t size = std::min(chunk, targets.size(0) - begin);
      const at::Tensor reference = source.logits(states.front().narrow(0, begin, size)),
                       wanted = targets.narrow(0, begin, size);
      for (std::size_t i = 0; i < result.size(); ++i) {
        const auto rows = softmax_divergence(reference, source.logits(states[i + 1].narrow(0, begin, size)), wanted);
        put(rows, places.narrow(0, begin, size), result[i]);
      }
    }
    if (progress) progress(std::ssize(scored.tokens) * std::ssize(result));
    left = left.subspan(count);
  }
  return result;
}

}  // namespace mla
