#include "core/train/batches.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <numeric>
#include <span>

#include "core/base/error.h"
#include "core/base/random.h"

namespace mla {
namespace {

/// A batch whose row i predicts every token of rows[i] from those before it.
Batch make_batch(const std::vector<std::span<const std::int32_t>>& rows) {
  std::size_t longest = 0;
  for (const auto& row : rows) longest = std::max(longest, row.size());
  const std::int64_t count = static_cast<std::int64_t>(rows.size()), length = static_cast<std::int64_t>(longest) - 1;
  Batch batch;
  batch.ids = at::zeros({count, length}, at::kLong);
  batch.targets = at::full({count, length}, kIgnoredTarget, at::kLong);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const auto begin = static_cast<std::ptrdiff_t>(i) * length;
    std::copy(rows[i].begin(), rows[i].end() - 1, batch.ids.mutable_data_ptr<std::int64_t>() + begin);
    std::copy(rows[i].begin() + 1, rows[i].end(), batch.targets.mutable_data_ptr<std::int64_t>() + begin);
    batch.scored += static_cast<std::int64_t>(rows[i].size()) - 1;
  }
  return batch;
}

}  // namespace

PackedBatches::PackedBatches(const std::vector<std::vector<std::int32_t>>& documents, std::int64_t length,
                             std::uint64_t seed)
    : length_(length), seed_(seed) {
  if (length < 1) throw ConfigError(cat("sequence_length: ", length, " is less than 1"));
  for (const auto& document : documents) tokens_.insert(tokens_.end(), document.begin(), document.end());
  sequences_ = (static_cast<std::int64_t>(tokens_.size()) - 1) / length;
  if (sequences_ < 1) {
    throw DataError(
        cat("training text: expected at least ", length + 1, " tokens for one sequence, found ", tokens_.size()));
  }
}

const std::vector<std::int64_t>& PackedBatches::order(std::int64_t epoch) {
  if (epoch != order_epoch_) {
    order_.resize(static_cast<std::size_t>(sequences_));
    std::iota(order_.begin(), order_.end(), 0);
    RandomStream(seed_, cat("train.order.", epoch)).shuffle(order_);
    order_epoch_ = epoch;
  }
  return order_;
}

Batch PackedBatches::next(std::int64_t rows) {
  std::vector<std::span<const std::int32_t>> chosen;
  for (std::int64_t i = 0; i < rows; ++i, ++position_) {
    const std::int64_t sequence = order(position_ / sequences_).at(static_cast<std::size_t>(position_ % sequences_));
    chosen.push_back(std::span(tokens_).subspan(static_cast<std::size_t>(sequence * length_),
                                                static_cast<std::size_t>(length_ + 1)));
  }
  return make_batch(chosen);
}

RowBatches::RowBatches(std::vector<std::vector<std::int32_t>> rows) : rows_(std::move(rows)) {
  if (rows_.empty()) throw DataError("training rows: expected at least one, found none");
  for (std::size_t i = 0; i < rows_.size(); ++i) {
    if (rows_[i].size() < 2) {
      throw DataError(cat("training rows: row ", i, ": expected at least 2 tokens, found ", rows_[i].size()));
    }
  }
}

Batch RowBatches::next(std::int64_t rows) {
  std::vector<std::span<const std::int32_t>> chosen;
  for (std::int64_t i = 0; i < rows; ++i, ++position_) {
    chosen.emplace_back(rows_[static_cast<std::size_t>(position_) % rows_.size()]);
  }
  return make_batch(chosen);
}

}  // namespace mla
