#include "core/evaluate/perplexity.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <span>

#include "core/base/checks.h"
#include "core/base/error.h"
#include "core/evaluate/token_nll.h"
#include "core/evaluate/windows.h"

namespace mla {
namespace {

/// Scores windows of similar length in one forward pass. They are padded on the right, which no earlier token sees.
void score(const Decoder& decoder, std::span<const Window> windows, std::vector<double>& nll) {
  std::int64_t length = 0, first = windows.front().first_scored;
  for (const Window& window : windows) {
    length = std::max(length, window.length());
    first = std::min(first, window.first_scored);
  }
  const std::int64_t targets = length - first;
  const at::Tensor on_device = window_ids(windows).to(at::device(decoder.device()), /*non_blocking=*/true);
  // The token at position t is predicted from the hidden state at t - 1.
  const at::Tensor hidden = decoder.hidden_states(on_device).narrow(1, first - 1, targets);
  const at::Tensor scores =
      target_nll(decoder, hidden, on_device.narrow(1, first, targets)).to(at::kCPU, at::kDouble).contiguous();
  for (std::size_t i = 0; i < windows.size(); ++i) {
    const double* row = scores.const_data_ptr<double>() + static_cast<std::ptrdiff_t>(i) * targets;
    std::copy_n(row + (windows[i].first_scored - first), windows[i].scored(), nll.begin() + windows[i].offset);
  }
}

PerplexityResult summarize(std::vector<double> nll, const WindowPlan& plan, std::int64_t context,
                           std::optional<std::int64_t> bytes) {
  PerplexityResult result;
  result.groups = text_groups(plan.scored_per_sequence, context);
  const Estimate mean = grouped_mean(nll, result.groups.sizes);
  result.mean_nll = mean.value;
  result.standard_error = mean.standard_error;
  result.perplexity = std::exp(result.mean_nll);
  if (bytes && *bytes > 0) {
    const double bits = result.mean_nll * static_cast<double>(plan.scorable) / std::numbers::ln2;
    result.bits_per_byte = bits / static_cast<double>(*bytes);
  }
  result.scored_tokens = plan.scored;
  result.scorable_tokens = plan.scorable;
  result.positions = scored_positions(plan);
  result.scored_per_sequence = plan.scored_per_sequence;
  result.nll = std::move(nll);
  return result;
}

}  // namespace

void PerplexityOptions::validate(const std::string& path) const {
  if (context < 2) throw ConfigError(cat(path, ".context: ", context, " is less than 2"));
  check_at_least_one(path + ".batch_tokens", batch_tokens);
  if (stride && (*stride < 1 || *stride > context)) {
    throw ConfigError(cat(path, ".stride: ", *stride, " is outside 1..context (", context, ")"));
  }
}

namespace {

PerplexityResult score_plan(const WindowPlan& plan, const Decoder& decoder, const PerplexityOptions& options,
                            std::optional<std::int64_t> bytes, const std::function<void(std::int64_t)>& progress) {
  const at::NoGradGuard no_grad;
  std::vector<double> nll(static_cast<std::size_t>(plan.scored));
  std::span<const Window> left = plan.windows;
  while (!left.empty()) {
    const std::size_t count = windows_together(decoder, left, options.batch_tokens);
    score(decoder, left.first(count), nll);
    std::int64_t tokens = 0;
    for (const Window& window : left.first(count)) tokens += window.scored();
    if (progress) progress(tokens);
    left = left.subspan(count);
  }
  return summarize(std::move(nll), plan, options.context, bytes);
}

std::vector<std::int32_t> behind(std::int32_t first, std::span<const std::int32_t> tokens) {
  std::vector<std::int32_t> all = {first};
  all.insert(all.end(), tokens.begin(), tokens.end());
  return all;
}

}  // namespace

PerplexityResult perplexity(const Decoder& decoder, const std::vector<std::vector<std::int32_t>>& sequences,
                            const PerplexityOptions& options, std::optional<std::int64_t> bytes,
                            const std::function<void(std::int64_t)>& progress) {
  options.validate("perplexity");
  const WindowPlan plan =
      plan_windows(sequences, options.context, options.stride.value_or(options.context), "perplexity");
  return score_plan(plan, decoder, options, bytes, progress);
}

PerplexityResult perplexity_by(WindowRule rule, std::int32_t first, const Decoder& decoder,
                               const std::vector<std::vector<std::int32_t>>& sequences,
                               const PerplexityOptions& options, std::optional<std::int64_t> bytes,
                               const std::function<void(std::int64_t)>& progress) {
  if (rule == WindowRule::kStrided) return perplexity(decoder, sequences, options, bytes, progress);
  options.validate("perplexity");
  if (options.stride && *options.stride != options.context)
    throw ConfigError(
        cat("stride = ", *options.stride, ": windows other than strided ones follow each other; leave it out"));
  const bool rolling = rule == WindowRule::kRolling;
  std::vector<std::vector<std::int32_t>> rows;
  for (const auto& sequence : sequences) {
    std::span<const std::int32_t> text = sequence;
    if (!text.empty() && text.front() == first) text = text.subspan(1);
    const std::size_t part = rolling ? text.size() : static_cast<std::size_t>(options.context - 1);
    while (!text.empty()) {
      const std::size_t count = std::min(part, text.size());
      rows.push_back(behind(first, text.first(count)));
      text = text.subspan(count);
    }
  }
  const std::int64_t context = rolling ? options.context + 1 : options.context;
  return score_plan(plan_windows(rows, context, options.context, "perplexity", rolling), decoder, options, bytes,
                    progress);
}

double perplexity_per(const PerplexityResult& result, std::int64_t units) {
  return std::exp(result.mean_nll * static_cast<double>(result.scorable_tokens) / static_cast<double>(units));
}

}  // namespace mla
