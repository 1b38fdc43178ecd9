#include "core/evaluate/continuation.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <map>
#include <span>

#include "core/base/error.h"
#include "core/evaluate/continuation_rows.h"
#include "core/evaluate/likelihood_journal.h"
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
  return ids.to(at::device(decoder.device()), /*non_blocking=*/true);
}

/// Adds up what the rows score. `hidden` [rows, positions, width] are final states from position `first` on.
void add_scores(const Decoder& decoder, const at::Tensor& hidden, std::int64_t first, Rows rows,
                LikelihoodResult& result) {
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
  const at::Tensor states = hidden.reshape({-1, hidden.size(2)})
                                .index_select(0, at::tensor(places).to(at::device(device), /*non_blocking=*/true));
  const at::Tensor wanted = at::tensor(targets).to(at::device(device), /*non_blocking=*/true);
  TargetScores scores;
  if (result.greedy.empty()) {
    scores.nll = target_nll(decoder, states, wanted);
  } else {
    scores = target_scores(decoder, states, wanted);
    scores.likeliest = scores.likeliest.to(at::kCPU).contiguous();
  }
  const at::Tensor nll = scores.nll.to(at::kCPU, at::kDouble).contiguous();
  const double* value = nll.const_data_ptr<double>();
  const bool* likeliest = scores.likeliest.defined() ? scores.likeliest.const_data_ptr<bool>() : nullptr;
  for (const ContinuationRow& row : rows) {
    for (const ScoredContinuation& scored : row.scored) {
      double& sum = result.sum[scored.group][scored.choice];
      for (std::int64_t at = scored.begin; at < std::ssize(scored.tokens); ++at) {
        sum -= *value++;
        if (likeliest && !*likeliest++) result.greedy[scored.group][scored.choice] = 0;
      }
    }
  }
}

/// Rows that have nothing in common.
void score_rows(const Decoder& decoder, Rows rows, LikelihoodResult& result) {
  add_scores(decoder, decoder.hidden_states(padded_ids(decoder, rows, 0)), 0, rows, result);
}

/// Whether rows whose longest has `longest` tokens, `tokens` together, go into one pass: until it is large enough to
/// keep the processor busy, what padding costs does not count.
bool fills_well(std::int64_t rows, std::int64_t longest, std::int64_t tokens) {
  constexpr std::int64_t kEnoughTokens = 96;
  constexpr double kMostPadding = 0.15;
  const std::int64_t padded = rows * longest;
  return padded <= kEnoughTokens || static_cast<double>(padded - tokens) <= kMostPadding * static_cast<double>(padded);
}

/// The rest of some rows, whose beginnings `once` holds: row i goes on from sequence owners[i].
void score_rests(const Decoder& decoder, const DecoderCache& once, const at::Tensor& before, Rows rows,
                 const std::vector<std::int64_t>& owners, LikelihoodResult& result) {
  const std::int64_t shared = rows.front().shared;
  std::int64_t first = shared;
  for (const ContinuationRow& row : rows) {
    for (const ScoredContinuation& scored : row.scored) first = std::min(first, scored.begin - 1);
  }
  const at::Tensor sequences = at::tensor(owners).to(at::device(decoder.device()), /*non_blocking=*/true);
  DecoderCache cache = once.select(sequences);
  const at::Tensor after = decoder.hidden_states_cached(padded_ids(decoder, rows, shared), cache);
  add_scores(decoder, at::cat({before.narrow(1, first, shared - first).index_select(0, sequences), after}, 1), first,
             rows, result);
}

/// Rows of groups whose shared beginnings are equally long: each beginning is fed once, and then the rests, those of
/// about one length together.
void score_shared(const Decoder& decoder, Rows rows, LikelihoodResult& result) {
  const std::int64_t shared = rows.front().shared;
  std::vector<ContinuationRow> beginnings;
  std::vector<std::pair<const ContinuationRow*, std::int64_t>> owned;
  for (const ContinuationRow& row : rows) {
    if (beginnings.empty() || beginnings.back().group != row.group) {
      beginnings.push_back({row.inputs.first(static_cast<std::size_t>(shared)), row.group, shared, {}});
    }
    owned.emplace_back(&row, std::ssize(beginnings) - 1);
  }
  DecoderCache once = decoder.make_cache(std::ssize(beginnings));
  const at::Tensor before = decoder.hidden_states_cached(padded_ids(decoder, beginnings, 0), once);
  std::stable_sort(owned.begin(), owned.end(),
                   [](const auto& a, const auto& b) { return a.first->length() > b.first->length(); });
  for (auto next = owned.begin(); next != owned.end();) {
    const std::int64_t longest = next->first->length() - shared;
    std::vector<ContinuationRow> together;
    std::vector<std::int64_t> owners;
    for (std::int64_t tokens = 0; next != owned.end(); ++next) {
      tokens += next->first->length() - shared;
      if (!together.empty() && !fills_well(std::ssize(together) + 1, longest, tokens)) break;
      together.push_back(*next->first);
      owners.push_back(next->second);
    }
    score_rests(decoder, once, before, together, owners, result);
  }
}

std::int64_t count_scored(Rows rows) {
  std::int64_t count = 0;
  for (const ContinuationRow& row : rows) count += std::ssize(row.scored);
  return count;
}

/// Tokens that the rows cost: of a group's shared beginning once.
std::int64_t count_tokens(Rows rows) {
  std::int64_t count = 0;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const bool again = rows[i].shared > 0 && i > 0 && rows[i - 1].group == rows[i].group;
    count += rows[i].length() - (again ? rows[i].shared : 0);
  }
  return count;
}

ContinuationPlan plan(const Decoder& decoder, const std::vector<ContinuationGroup>& groups,
                      const LikelihoodOptions& options) {
  const bool whole_rows = decoder.spec().rotary().depends_on_length();
  const std::int64_t positions = options.positions > 0 ? options.positions : decoder.spec().max_positions;
  return plan_continuations(groups, positions, whole_rows, options.share_contexts && !whole_rows);
}

/// How many of the rows, which are sorted by what they share and by length, one forward pass takes. A group that
/// shares its beginning is never split.
std::size_t batch_size(Rows rows, std::int64_t batch_tokens, bool equal_lengths) {
  std::size_t count = 0;
  std::int64_t longest = 0, tokens = 0;
  while (count < rows.size() && rows[count].shared == rows.front().shared) {
    std::size_t next = count + 1;
    if (rows[count].shared > 0) {
      while (next < rows.size() && rows[next].group == rows[count].group) ++next;
    }
    if (equal_lengths && rows[count].length() != rows.front().length()) break;
    for (std::size_t i = count; i < next; ++i) {
      longest = std::max(longest, rows[i].length());
      tokens += rows[i].length();
    }
    const bool padded = rows[count].shared == 0 && !fills_well(static_cast<std::int64_t>(next), longest, tokens);
    if (count > 0 && padded) break;
    if (count > 0 && static_cast<std::int64_t>(next) * longest > batch_tokens) break;
    count = next;
  }
  return count;
}

}  // namespace

std::int64_t tokens_to_compute(const Decoder& decoder, const std::vector<ContinuationGroup>& groups,
                               const LikelihoodOptions& options, std::int64_t done) {
  const ContinuationPlan planned = plan(decoder, groups, options);
  const bool whole_rows = decoder.spec().rotary().depends_on_length();
  Rows left = planned.rows;
  for (; done > 0 && !left.empty(); --done) {
    left = left.subspan(batch_size(left, options.batch_tokens, whole_rows));
  }
  return count_tokens(left);
}

LikelihoodResult log_likelihoods(const Decoder& decoder, const std::vector<ContinuationGroup>& groups,
                                 const LikelihoodOptions& options, const std::function<void(std::int64_t)>& progress) {
  const at::NoGradGuard no_grad;
  const bool whole_rows = decoder.spec().rotary().depends_on_length();
  const ContinuationPlan planned = plan(decoder, groups, options);
  LikelihoodResult result;
  result.truncated = planned.truncated;
  for (const ContinuationGroup& group : groups) {
    result.sum.emplace_back(group.size(), 0.0);
    if (options.greedy) result.greedy.emplace_back(group.size(), 1);
  }
  Rows left = planned.rows;
  while (!left.empty()) {
    const Rows now = left.first(batch_size(left, options.batch_tokens, whole_rows));
    const bool known = options.journal && options.journal->restore(now, result);
    if (!known) {
      (now.front().shared > 0 ? score_shared : score_rows)(decoder, now, result);
      if (options.journal) options.journal->keep(now, result);
    }
    if (progress) progress(count_scored(now));
    if (const auto& tell = known ? options.taken_over : options.computed) tell(count_tokens(now));
    left = left.subspan(now.size());
  }
  return result;
}

}  // namespace mla
