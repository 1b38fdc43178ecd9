#include "core/evaluate/continuation.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <map>
#include <span>

#include "core/base/error.h"
#include "core/evaluate/continuation_rows.h"
#include "core/evaluate/token_nll.h"

namespace mla {
namespace {

using Rows = std::span<const ContinuationRow>;

/// Right-padded ids [rows, length] of the rows' tokens from position `first` on, on the model's device.
at::Tensor padded_ids(const Decoder& decoder, Rows rows, std::int64_t first) {
  std::int64_t longest = 0;
  for (const ContinuationRow& row : rows) longest = std::max(longest, row.length() - first);
  const at::Tensor ids = at::zeros({std::ssize(rows), longest}, at::kLong);
  auto* to = ids.mutable_data_ptr<std::int64_t>();
  for (const ContinuationRow& row : rows) {
    std::copy(row.inputs.begin() + first, row.inputs.end(), to);
    to += longest;
  }
  return ids.to(decoder.embedding.device());
}

/// Adds up what the rows score. `hidden` [rows, positions, width] are final states from position `first` on.
void add_scores(const Decoder& decoder, const at::Tensor& hidden, std::int64_t first, Rows rows,
                std::vector<std::vector<double>>& sums) {
  std::vector<std::int64_t> places, targets;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    for (const ScoredContinuation& scored : rows[i].scored) {
      for (std::int64_t at = scored.begin; at < std::ssize(scored.tokens); ++at) {
        // The token at position t is predicted from the state at t - 1.
        places.push_back(static_cast<std::int64_t>(i) * hidden.size(1) + at - 1 - first);
        targets.push_back(scored.tokens[static_cast<std::size_t>(at)]);
      }
    }
  }
  const auto device = hidden.device();
  const at::Tensor states = hidden.reshape({-1, hidden.size(2)}).index_select(0, at::tensor(places).to(device));
  const at::Tensor nll = target_nll(decoder, states, at::tensor(targets).to(device)).to(at::kCPU, at::kDouble).contiguous();
  const double* value = nll.const_data_ptr<double>();
  for (const ContinuationRow& row : rows) {
    for (const ScoredContinuation& scored : row.scored) {
      double& sum = sums[scored.group][scored.choice];
      for (std::int64_t at = scored.begin; at < std::ssize(scored.tokens); ++at) sum -= *value++;
    }
  }
}

/// Rows that have nothing in common.
void score_rows(const Decoder& decoder, Rows rows, std::vector<std::vector<double>>& sums) {
  add_scores(decoder, decoder.hidden_states(padded_ids(decoder, rows, 0)), 0, rows, sums);
}

/// Rows of groups whose shared beginnings are equally long: each beginning is fed once.
void score_shared(const Decoder& decoder, Rows rows, std::vector<std::vector<double>>& sums) {
  const std::int64_t shared = rows.front().shared;
  std::vector<ContinuationRow> beginnings;
  std::vector<std::int64_t> owner;
  std::int64_t first = shared;
  for (const ContinuationRow& row : rows) {
    if (beginnings.empty() || beginnings.back().group != row.group) {
      beginnings.push_back({row.inputs.first(static_cast<std::size_t>(shared)), row.group, shared, {}});
    }
    owner.push_back(std::ssize(beginnings) - 1);
    for (const ScoredContinuation& scored : row.scored) first = std::min(first, scored.begin - 1);
  }
  const at::Tensor owners = at::tensor(owner).to(decoder.embedding.device());
  DecoderCache once = decoder.make_cache(std::ssize(beginnings));
  const at::Tensor before = decoder.hidden_states_cached(padded_ids(decoder, beginnings, 0), once);
  DecoderCache cache = once.select(owners);
  const at::Tensor after = decoder.hidden_states_cached(padded_ids(decoder, rows, shared), cache);
  add_scores(decoder, at::cat({before.narrow(1, first, shared - first).index_select(0, owners), after}, 1), first, rows,
             sums);
}

std::int64_t count_scored(Rows rows) {
  std::int64_t count = 0;
  for (const ContinuationRow& row : rows) count += std::ssize(row.scored);
  return count;
}

/// How many of the rows, which are sorted by what they share and by length, one forward pass takes. A group that
/// shares its beginning is never split.
std::size_t batch_size(Rows rows, std::int64_t batch_tokens, bool equal_lengths) {
  std::size_t count = 0;
  std::int64_t longest = 0;
  while (count < rows.size() && rows[count].shared == rows.front().shared) {
    std::size_t next = count + 1;
    if (rows[count].shared > 0) {
      while (next < rows.size() && rows[next].group == rows[count].group) ++next;
    }
    if (equal_lengths && rows[count].length() != rows.front().length()) break;
    for (std::size_t i = count; i < next; ++i) longest = std::max(longest, rows[i].length());
    if (count > 0 && static_cast<std::int64_t>(next) * longest > batch_tokens) break;
    count = next;
  }
  return count;
}

}  // namespace

LikelihoodResult log_likelihoods(const Decoder& decoder, const std::vector<ContinuationGroup>& groups,
                                 const LikelihoodOptions& options, const std::function<void(std::int64_t)>& progress) {
  const at::NoGradGuard no_grad;
  const bool whole_rows = decoder.geometry.rotary().depends_on_length();
  ContinuationPlan plan = plan_continuations(groups, decoder.geometry.max_positions, whole_rows,
                                             options.share_contexts && !whole_rows);
  LikelihoodResult result;
  result.truncated = plan.truncated;
  for (const ContinuationGroup& group : groups) result.sum.emplace_back(group.size(), 0.0);
  Rows left = plan.rows;
  while (!left.empty()) {
    const Rows now = left.first(batch_size(left, options.batch_tokens, whole_rows));
    (now.front().shared > 0 ? score_shared : score_rows)(decoder, now, result.sum);
    if (progress) progress(count_scored(now));
    left = left.subspan(now.size());
  }
  return result;
}

}  // namespace mla
