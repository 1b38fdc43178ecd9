#include "core/evaluate/sampling.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <unordered_set>

namespace mla {
namespace {

/// Candidates that suffice for nearly every top_p; sorting a whole vocabulary takes longer than a small model's step.
constexpr std::int64_t kUsualCandidates = 256;

void penalise(const at::Tensor& logits, double penalty, const std::vector<std::int64_t>& seen) {
  double* values = logits.mutable_data_ptr<double>();
  for (const std::int64_t token : std::unordered_set<std::int64_t>(seen.begin(), seen.end())) {
    double& value = values[token];
    value = value > 0 ? value / penalty : value * penalty;
  }
}

/// An index drawn with the given weights, of which the first `count` are looked at.
std::int64_t draw(const at::Tensor& weights, std::int64_t count, RandomStream& stream) {
  const at::Tensor cumulative = weights.narrow(0, 0, count).cumsum(0);
  const double* edges = cumulative.const_data_ptr<double>();
  const double drawn = stream.uniform() * edges[count - 1];
  return std::min<std::int64_t>(std::upper_bound(edges, edges + count, drawn) - edges, count - 1);
}

/// Of probabilities in falling order the fewest that hold top_p of all, whose sum is 1; 0 where these do not hold that.
std::int64_t nucleus(const at::Tensor& probability, double top_p) {
  const double* p = probability.const_data_ptr<double>();
  double held = 0;
  for (std::int64_t i = 0; i < probability.size(0); ++i) {
    held += p[i];
    if (held >= top_p) return i + 1;
  }
  return 0;
}

std::int64_t from_nucleus(const at::Tensor& scaled, const SamplingOptions& options, RandomStream& stream) {
  const std::int64_t all = scaled.size(0), most = options.top_k > 0 ? std::min(options.top_k, all) : all;
  std::int64_t candidates = std::min(most, std::max(options.top_k, kUsualCandidates));
  auto [sorted, order] = at::topk(scaled, candidates);
  const at::Tensor total = options.top_k > 0 ? sorted.narrow(0, 0, most).logsumexp(0) : scaled.logsumexp(0);
  at::Tensor probability = (sorted - total).exp();
  std::int64_t kept = options.top_p < 1 ? nucleus(probability, options.top_p) : candidates;
  if (kept == 0 && candidates < most) {
    std::tie(sorted, order) = at::sort(scaled, true, -1, true);
    probability = (sorted - total).exp();
    kept = nucleus(probability, options.top_p);
  }
  if (kept == 0) kept = probability.size(0);  // their sum was rounded to less than top_p
  return order[draw(probability, kept, stream)].item<std::int64_t>();
}

}  // namespace

std::int64_t next_token(const at::Tensor& logits, const SamplingOptions& options, const std::vector<std::int64_t>& seen,
                        RandomStream& stream) {
  const bool greedy = options.temperature == 0, penalised = options.repetition_penalty != 1;
  if (greedy && !penalised) return logits.argmax(-1).item<std::int64_t>();
  at::Tensor scaled = logits.to(at::kDouble, /*non_blocking=*/false, /*copy=*/true);
  if (penalised) penalise(scaled, options.repetition_penalty, seen);
  if (greedy) return scaled.argmax(-1).item<std::int64_t>();
  scaled.div_(options.temperature);
  if (options.top_k == 0 && options.top_p >= 1) return draw(at::softmax(scaled, 0), scaled.size(0), stream);
  return from_nucleus(scaled, options, stream);
}

}  // namespace mla
