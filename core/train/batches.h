// Where training batches come from.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace mla {

/// Target of a position that is not scored.
inline constexpr std::int64_t kIgnoredTarget = -100;

/// Sequences and what is to be predicted after each of their tokens.
struct Batch {
  at::Tensor ids;           ///< [rows, length], int64
  at::Tensor targets;       ///< [rows, length], int64: the next token, or kIgnoredTarget
  std::int64_t scored = 0;  ///< positions with a target
  at::Tensor documents;     ///< [rows, length], int64: where in the row the token's document begins; undefined: rows are
                            ///< not divided, and every token sees all earlier ones
};

/// An endless sequence of rows. Its position is the number of rows handed out, so that a run can be continued.
class BatchSource {
 public:
  virtual ~BatchSource() = default;

  /// The next `rows` rows; after the last row of the data comes the first of the next epoch.
  virtual Batch next(std::int64_t rows) = 0;

  /// Rows handed out so far; seek() continues after that many.
  std::int64_t position() const { return position_; }
  void seek(std::int64_t position) { position_ = position; }

 protected:
  std::int64_t position_ = 0;
};

/// Documents put end to end and cut into sequences of `length` inputs each; the last target of a sequence is the first
/// input of the next, so that every token but the first is predicted once an epoch. A remainder shorter than a sequence
/// is left out. Each epoch has its own order, decided by the seed and the epoch's number alone.
class PackedBatches final : public BatchSource {
 public:
  /// Throws ConfigError when `length` < 1, DataError when the documents hold fewer than length + 1 tokens.
  PackedBatches(const std::vector<std::vector<std::int32_t>>& documents, std::int64_t length, std::uint64_t seed);

  Batch next(std::int64_t rows) override;
  std::int64_t sequences() const { return sequences_; }

 private:
  const std::vector<std::int64_t>& order(std::int64_t epoch);

  std::vector<std::int32_t> tokens_;
  std::int64_t length_ = 0, sequences_ = 0;
  std::uint64_t seed_ = 0;
  std::int64_t order_epoch_ = -1;
  std::vector<std::int64_t> order_;
};

/// Rows of different lengths in the order given: every token of a row but its first is a target. Rows of a batch are
/// padded on the right, where nothing is scored.
class RowBatches final : public BatchSource {
 public:
  /// Throws DataError when there is no row, or one with fewer than two tokens.
  explicit RowBatches(std::vector<std::vector<std::int32_t>> rows);

  Batch next(std::int64_t rows) override;

 private:
  std::vector<std::vector<std::int32_t>> rows_;
};

}  // namespace mla
