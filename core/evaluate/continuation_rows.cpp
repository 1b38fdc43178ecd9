#include "core/evaluate/continuation_rows.h"

#include <algorithm>

#include "core/base/error.h"

namespace mla {
namespace {

/// Sharing must save this factor of tokens: a shared beginning costs more passes, and smaller ones.
constexpr std::int64_t kLeastSaving = 2;
/// A pass over fewer tokens waits for the weights: groups go together that share unequally much, each as much as the
/// one that shares least, until their shared tokens are this many or this part of all tokens would be computed twice.
constexpr std::int64_t kPoolTokens = 512;
constexpr double kMostSpent = 0.1;

std::int64_t common_beginning(std::span<const std::int32_t> a, std::span<const std::int32_t> b) {
  return std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin();
}

/// The continuation without what does not fit; `inputs_less` tokens of it are not fed.
ScoredContinuation fit(const Continuation& continuation, std::size_t group, std::size_t choice, std::int64_t positions,
                       std::int64_t inputs_less, std::int64_t& truncated) {
  expects(continuation.context >= 1 && continuation.context < std::ssize(continuation.tokens),
          "a continuation has a token, and one before it");
  const std::span<const std::int32_t> tokens = continuation.tokens;
  const std::int64_t surplus = std::max<std::int64_t>(0, std::ssize(tokens) - inputs_less - positions);
  if (surplus >= continuation.context) {
    throw DataError(cat("item ", group + 1, ", choice ", choice + 1, ": a continuation of ",
                        std::ssize(tokens) - continuation.context,
                        " tokens leaves no room for its context: the model has ", positions, " positions"));
  }
  truncated += surplus > 0;
  return {group, choice, tokens.subspan(static_cast<std::size_t>(surplus)), continuation.context - surplus};
}

/// The rows of one group.
std::vector<ContinuationRow> rows_of(const ContinuationGroup& group, std::size_t index, std::int64_t positions,
                                     bool whole_rows, std::int64_t& truncated) {
  const std::int64_t inputs_less = whole_rows ? 0 : 1;
  std::vector<ScoredContinuation> continuations;
  for (std::size_t choice = 0; choice < group.size(); ++choice) {
    continuations.push_back(fit(group[choice], index, choice, positions, inputs_less, truncated));
  }
  std::stable_sort(continuations.begin(), continuations.end(),
                   [](const auto& a, const auto& b) { return a.tokens.size() > b.tokens.size(); });
  std::vector<ContinuationRow> rows;
  for (const ScoredContinuation& continuation : continuations) {
    const auto inputs = continuation.tokens.first(continuation.tokens.size() - static_cast<std::size_t>(inputs_less));
    const auto begins = [&](const ContinuationRow& row) {
      const bool may_be_longer = !whole_rows || row.inputs.size() == inputs.size();
      return may_be_longer && common_beginning(inputs, row.inputs) == std::ssize(inputs);
    };
    auto row = std::find_if(rows.begin(), rows.end(), begins);
    if (row == rows.end()) row = rows.insert(rows.end(), {inputs, index, 0, {}});
    row->scored.push_back(continuation);
  }
  return rows;
}

/// What all rows begin with, where computing that once pays; at least one token of each row is fed after it.
std::int64_t worth_sharing(const std::vector<ContinuationRow>& rows) {
  if (rows.size() < 2) return 0;
  std::int64_t shared = rows.front().length(), all = 0;
  for (const ContinuationRow& row : rows) {
    shared = std::min({shared, common_beginning(rows.front().inputs, row.inputs), row.length() - 1});
    all += row.length();
  }
  const std::int64_t apart = all - std::ssize(rows) * shared;
  return shared > 0 && kLeastSaving * (shared + apart) <= all ? shared : 0;
}

/// Makes groups of rows, sorted by what they share, share equally much. `rows` all share something.
void pool(std::span<ContinuationRow> rows) {
  std::int64_t pooled = 0, tokens = 0,
               longest = 0;  // of the pool: tokens shared, all tokens to compute, shared by its first
  double spent = 0;          // tokens that its rows compute because they share less than they could
  std::size_t first = 0;
  for (std::size_t begin = 0, end = 0; begin < rows.size(); begin = end) {
    const std::int64_t shared = rows[begin].shared;
    std::int64_t apart = 0;
    for (end = begin; end < rows.size() && rows[end].group == rows[begin].group; ++end)
      apart += rows[end].length() - shared;
    const double more = static_cast<double>((longest - shared) * static_cast<std::int64_t>(begin - first));
    const bool joins =
        pooled > 0 &&
        (shared == longest || (pooled < kPoolTokens && spent + more <= kMostSpent * static_cast<double>(tokens)));
    if (!joins) {
      first = begin;
      pooled = tokens = 0;
      spent = 0;
    } else if (shared < longest) {
      spent += more;
      for (std::size_t i = first; i < begin; ++i) rows[i].shared = shared;
    }
    longest = shared;
    pooled += shared;
    tokens += shared + apart;
  }
}

}  // namespace

ContinuationPlan plan_continuations(const std::vector<ContinuationGroup>& groups, std::int64_t positions,
                                    bool whole_rows, bool share) {
  ContinuationPlan plan;
  for (std::size_t i = 0; i < groups.size(); ++i) {
    std::vector<ContinuationRow> rows = rows_of(groups[i], i, positions, whole_rows, plan.truncated);
    const std::int64_t shared = share ? worth_sharing(rows) : 0;
    for (ContinuationRow& row : rows) {
      row.shared = shared;
      plan.rows.push_back(std::move(row));
    }
  }
  // Groups that share stay together: within one value of `shared` the order by group is kept.
  std::stable_sort(plan.rows.begin(), plan.rows.end(), [](const ContinuationRow& a, const ContinuationRow& b) {
    if (a.shared != b.shared || a.shared > 0) return a.shared > b.shared;
    return a.length() > b.length();
  });
  const auto single =
      std::find_if(plan.rows.begin(), plan.rows.end(), [](const ContinuationRow& row) { return row.shared == 0; });
  pool({plan.rows.begin(), single});
  return plan;
}

}  // namespace mla
