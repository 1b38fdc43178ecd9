#include "core/evaluate/layer_divergence.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "core/base/error.h"
#include "core/evaluate/divergence_rows.h"

namespace mla {
namespace {

/// The states [rows, hidden] that predict the scored tokens: first of the source, then with each layer exchanged.
std::vector<at::Tensor> predicting_states(const Decoder& source, const Decoder& converted, const at::Tensor& ids,
                                          const at::Tensor& rows) {
  ForwardContext context = source.context(ids.size(1));
  const auto finish = [&](const at::Tensor& x) {
    return source.final_states(x.reshape({-1, x.size(2)}).index_select(0, rows));
  };
  std::vector<at::Tensor> inputs = {source.embed(ids)};
  for (std::size_t i = 0; i < source.layers.size(); ++i)
    inputs.push_back(source.apply_layer(i, inputs.back(), context));
  std::vector<at::Tensor> states = {finish(inputs.back())};
  for (std::size_t i = 0; i < source.layers.size(); ++i) {
    at::Tensor x = converted.apply_layer(i, inputs[i], context);
    for (std::size_t above = i + 1; above < source.layers.size(); ++above) x = source.apply_layer(above, x, context);
    states.push_back(finish(x));
  }
  return states;
}

/// Whether any layer of one model can stand in the other.
bool exchangeable(const ModelSpec& source, const ModelSpec& converted) {
  const auto independent = [](const ModelSpec& spec) {
    return group_boundaries(spec).size() == spec.layers.size() + 1;
  };
  return source.layers.size() == converted.layers.size() && independent(source) && independent(converted);
}

}  // namespace

std::vector<TokenDivergence> layer_divergence(const Decoder& source, const Decoder& converted,
                                              const std::vector<std::vector<std::int32_t>>& sequences,
                                              const PerplexityOptions& options, const TokenProgress& progress) {
  const at::NoGradGuard no_grad;
  options.validate("divergence");
  if (!exchangeable(source.spec(), converted.spec())) {
    throw DataError(
        "single layers can be exchanged between models of the same layers only, none of which takes its "
        "attention from another");
  }
  const WindowPlan plan =
      plan_windows(sequences, options.context, options.stride.value_or(options.context), "divergence");
  std::vector<TokenDivergence> result(source.layers.size(), room_for(plan, options.context));
  const std::int64_t chunk = logit_rows(source.spec().vocabulary);
  const auto device = source.device();
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
