#include "core/evaluate/windows.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <numeric>

#include "core/base/error.h"

namespace mla {
namespace {

void add_windows(std::span<const std::int32_t> sequence, std::int64_t context, std::int64_t stride, bool last_is_full,
                 WindowPlan& plan) {
  const std::int64_t size = std::ssize(sequence), before = plan.scored;
  std::int64_t held = 0;  // tokens that earlier windows held
  for (std::int64_t begin = 0; held < size; begin += stride) {
    const std::int64_t end = std::min(begin + context, size);
    if (last_is_full && end == size) begin = std::max<std::int64_t>(0, size - context);
    const Window window{sequence.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin)),
                        std::max(held - begin, std::int64_t{1}), plan.scored};
    held = end;
    if (window.scored() <= 0) continue;
    plan.windows.push_back(window);
    plan.scored += window.scored();
  }
  plan.scored_per_sequence.push_back(plan.scored - before);
  plan.scorable += std::max<std::int64_t>(0, size - 1);
}

}  // namespace

WindowPlan plan_windows(const std::vector<std::vector<std::int32_t>>& sequences, std::int64_t context,
                        std::int64_t stride, const char* what, bool last_is_full) {
  WindowPlan plan;
  for (const auto& sequence : sequences) add_windows(sequence, context, stride, last_is_full, plan);
  if (plan.scored == 0) throw DataError(cat(what, ": expected a sequence of at least 2 tokens, found none"));
  std::stable_sort(plan.windows.begin(), plan.windows.end(),
                   [](const Window& a, const Window& b) { return a.length() > b.length(); });
  return plan;
}

std::vector<std::int64_t> scored_positions(const WindowPlan& plan) {
  std::vector<std::int64_t> positions(static_cast<std::size_t>(plan.scored));
  for (const Window& window : plan.windows) {
    const auto first = positions.begin() + window.offset;
    std::iota(first, first + window.scored(), window.first_scored);
  }
  return positions;
}

std::size_t windows_together(const Decoder& decoder, std::span<const Window> windows, std::int64_t batch_tokens) {
  const std::int64_t length = windows.front().length();
  const auto most = static_cast<std::size_t>(std::max<std::int64_t>(1, batch_tokens / length));
  const std::size_t count = std::min(most, windows.size());
  if (!decoder.spec().rotary().depends_on_length()) return count;
  // With dynamic frequencies padding would change the function: only equal lengths go together.
  std::size_t equal = 1;
  while (equal < count && windows[equal].length() == length) ++equal;
  return equal;
}

at::Tensor window_ids(std::span<const Window> windows) {
  std::int64_t length = 0;
  for (const Window& window : windows) length = std::max(length, window.length());
  const at::Tensor ids = at::zeros({std::ssize(windows), length}, at::kLong);
  auto* to = ids.mutable_data_ptr<std::int64_t>();
  for (const Window& window : windows) {
    std::copy(window.tokens.begin(), window.tokens.end(), to);
    to += length;
  }
  return ids;
}

ScoredTokens scored_tokens(std::span<const Window> windows, std::int64_t length) {
  ScoredTokens scored;
  for (std::size_t i = 0; i < windows.size(); ++i) {
    const Window& window = windows[i];
    for (std::int64_t at = window.first_scored; at < window.length(); ++at) {
      // The token at position t is predicted from the hidden state at t - 1.
      scored.rows.push_back(static_cast<std::int64_t>(i) * length + at - 1);
      scored.tokens.push_back(window.tokens[static_cast<std::size_t>(at)]);
      scored.places.push_back(window.offset + at - window.first_scored);
    }
  }
  return scored;
}

}  // namespace mla
