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

namespace mla {
namespace {

struct Window {
  std::span<const std::int32_t> tokens;
  std::int64_t first_scored = 1;  ///< the first token that counts, as a position in the window
  std::int64_t offset = 0;        ///< of that token among all scored ones
  std::int64_t length() const { return static_cast<std::int64_t>(tokens.size()); }
  std::int64_t scored() const { return length() - first_scored; }
};

/// Appends the windows of one sequence; returns the number of tokens scored so far.
std::int64_t plan_windows(std::span<const std::int32_t> sequence, std::int64_t context, std::int64_t stride,
                          std::int64_t offset, std::vector<Window>& windows) {
  const std::int64_t size = static_cast<std::int64_t>(sequence.size());
  std::int64_t held = 0;  // tokens that earlier windows held
  for (std::int64_t begin = 0; held < size; begin += stride) {
    const std::int64_t end = std::min(begin + context, size);
    const Window window{sequence.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin)),
                        std::max(held - begin, std::int64_t{1}), offset};
    held = end;
    if (window.scored() <= 0) continue;
    windows.push_back(window);
    offset += window.scored();
  }
  return offset;
}

/// Scores windows of similar length in one forward pass. They are padded on the right, which no earlier token sees.
void score(const Decoder& decoder, std::span<const Window> windows, std::vector<double>& nll) {
  std::int64_t length = 0, first = windows.front().first_scored;
  for (const Window& window : windows) {
    length = std::max(length, window.length());
    first = std::min(first, window.first_scored);
  }
  const std::int64_t count = static_cast<std::int64_t>(windows.size()), targets = length - first;
  const at::Tensor ids = at::zeros({count, length}, at::kLong);
  for (std::size_t i = 0; i < windows.size(); ++i) {
    std::copy(windows[i].tokens.begin(), windows[i].tokens.end(),
              ids.mutable_data_ptr<std::int64_t>() + static_cast<std::ptrdiff_t>(i) * length);
  }
  const at::Tensor on_device = ids.to(decoder.embedding.device());
  // The token at position t is predicted from the hidden state at t - 1.
  const at::Tensor hidden = decoder.hidden_states(on_device).narrow(1, first - 1, targets);
  const at::Tensor scores =
      target_nll(decoder, hidden, on_device.narrow(1, first, targets)).to(at::kCPU, at::kDouble).contiguous();
  for (std::size_t i = 0; i < windows.size(); ++i) {
    const double* row = scores.const_data_ptr<double>() + static_cast<std::ptrdiff_t>(i) * targets;
    std::copy_n(row + (windows[i].first_scored - first), windows[i].scored(), nll.begin() + windows[i].offset);
  }
}

/// How many of the windows, sorted from long to short, go into one forward pass.
std::size_t batch_size(const Decoder& decoder, std::span<const Window> windows, std::int64_t batch_tokens) {
  const std::int64_t length = windows.front().length();
  const auto most = static_cast<std::size_t>(std::max<std::int64_t>(1, batch_tokens / length));
  const std::size_t count = std::min(most, windows.size());
  if (!decoder.geometry.rotary().depends_on_length()) return count;
  // With dynamic frequencies padding would change the function: only equal lengths go together.
  std::size_t equal = 1;
  while (equal < count && windows[equal].length() == length) ++equal;
  return equal;
}

PerplexityResult summarize(std::vector<double> nll, std::int64_t scorable, std::optional<std::int64_t> bytes) {
  PerplexityResult result;
  const double count = static_cast<double>(nll.size());
  double sum = 0, squares = 0;
  for (const double value : nll) sum += value;
  result.mean_nll = sum / count;
  for (const double value : nll) squares += (value - result.mean_nll) * (value - result.mean_nll);
  if (nll.size() > 1) result.standard_error = std::sqrt(squares / (count - 1) / count);
  result.perplexity = std::exp(result.mean_nll);
  if (bytes && *bytes > 0) {
    result.bits_per_byte = result.mean_nll * static_cast<double>(scorable) / (std::numbers::ln2 * static_cast<double>(*bytes));
  }
  result.scored_tokens = static_cast<std::int64_t>(nll.size());
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

PerplexityResult perplexity(const Decoder& decoder, const std::vector<std::vector<std::int32_t>>& sequences,
                            const PerplexityOptions& options, std::optional<std::int64_t> bytes,
                            const std::function<void(std::int64_t)>& progress) {
  const at::NoGradGuard no_grad;
  options.validate("perplexity");
  std::vector<Window> windows;
  std::int64_t scored = 0, scorable = 0;
  std::vector<std::int64_t> scored_per_sequence;
  for (const auto& sequence : sequences) {
    scorable += std::max<std::int64_t>(0, std::ssize(sequence) - 1);
    const std::int64_t before = scored;
    scored = plan_windows(sequence, options.context, options.stride.value_or(options.context), scored, windows);
    scored_per_sequence.push_back(scored - before);
  }
  if (scored == 0) throw DataError("perplexity: expected a sequence of at least 2 tokens, found none");
  std::stable_sort(windows.begin(), windows.end(),
                   [](const Window& a, const Window& b) { return a.length() > b.length(); });
  std::vector<double> nll(static_cast<std::size_t>(scored));
  std::span<const Window> left = windows;
  while (!left.empty()) {
    const std::size_t count = batch_size(decoder, left, options.batch_tokens);
    score(decoder, left.first(count), nll);
    std::int64_t tokens = 0;
    for (const Window& window : left.first(count)) tokens += window.scored();
    if (progress) progress(tokens);
    left = left.subspan(count);
  }
  PerplexityResult result = summarize(std::move(nll), scorable, bytes);
  result.scored_per_sequence = std::move(scored_per_sequence);
  return result;
}

}  // namespace mla
