// Where training batches come from.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/base/permutation.h"
#include "core/text/token_stream.h"
#include "core/train/mixture_schedule.h"

namespace mla {

/// Target of a position that is not scored.
inline constexpr std::int64_t kIgnoredTarget = -100;

/// Sequences and what is to be predicted after each of their tokens.
struct Batch {
  at::Tensor ids;           ///< [rows, length], int64
  at::Tensor targets;       ///< [rows, length], int64: the next token, or kIgnoredTarget
  std::int64_t scored = 0;  ///< positions with a target
  /// [rows, length], int64: the position in its row where each token's document begins (0 for one that began before the
  /// row), for attention within documents. Undefined: attention reaches back to the row's first token.
  at::Tensor documents{};
};

/// An endless sequence of rows. Its position is the number of rows handed out, so that a run can be continued, and so
/// that several processes can each take their rows of a batch: the position alone decides which rows come next.
class BatchSource {
 public:
  virtual ~BatchSource() = default;

  /// The next `rows` rows; after the last row of the data comes the first of the next epoch.
  virtual Batch next(std::int64_t rows) = 0;

  /// Rows handed out so far; seek() continues after that many, at no cost worth counting.
  std::int64_t position() const { return position_; }
  void seek(std::int64_t position) { position_ = position; }

 protected:
  std::int64_t position_ = 0;
};

/// What packed sequences do where one document ends and another begins.
enum class DocumentBoundaries {
  kKept,   ///< nothing: the text before is context, and the next document's first token is predicted from it
  kMasked  ///< attention stays within documents, and a target in another document is not scored
};
std::vector<std::pair<std::string, DocumentBoundaries>> enum_names(DocumentBoundaries);

/// Endless random orders of 0 … count - 1: each epoch goes through all of them, in an order that seed, name and epoch
/// decide.
class EpochOrder {
 public:
  EpochOrder(std::int64_t count, std::uint64_t seed, std::string name)
      : count_(count), seed_(seed), name_(std::move(name)) {}
  std::int64_t at(std::int64_t position);

 private:
  std::int64_t count_ = 0;
  std::uint64_t seed_ = 0;
  std::string name_;
  std::int64_t epoch_ = -1;
  std::optional<RandomPermutation> order_;
};

/// One source of a mixture.
struct WeightedTokens {
  std::shared_ptr<const TokenStream> tokens;
  double weight = 1;   ///< its share of all sequences, relative to the others'
  std::string name{};  ///< in errors
};

/// Documents put end to end and cut into sequences of `length` inputs each; the last target of a sequence is the first
/// input of the next, so that every token but the first is predicted once an epoch. A remainder shorter than a sequence
/// is left out. Sources mix by MixtureSchedule, sequence by sequence; each goes through all of its sequences before any
/// comes again, in an order that the seed, the source's place and its epoch decide. Nothing is loaded or listed: memory
/// does not grow with the corpus.
class PackedBatches final : public BatchSource {
 public:
  /// Throws ConfigError when `length` < 1 or for weights that MixtureSchedule refuses, DataError when a source holds
  /// fewer than length + 1 tokens.
  PackedBatches(std::vector<WeightedTokens> sources, std::int64_t length, std::uint64_t seed,
                DocumentBoundaries boundaries = DocumentBoundaries::kKept);
  /// One source, in memory.
  PackedBatches(const std::vector<std::vector<std::int32_t>>& documents, std::int64_t length, std::uint64_t seed);

  Batch next(std::int64_t rows) override;

  /// Sequences of an epoch of a source.
  std::int64_t sequences(std::size_t source = 0) const { return sources_.at(source).sequences; }

 private:
  struct Source {
    std::shared_ptr<const TokenStream> tokens;
    std::int64_t sequences = 0;
    EpochOrder order;
  };
  std::int64_t first_token(const MixtureSchedule::Draw& draw);

  std::vector<Source> sources_;
  MixtureSchedule schedule_;
  std::int64_t length_ = 0;
  DocumentBoundaries boundaries_;
};

/// One document a row: every token of a row but its first is a target, unless the stream says otherwise
/// (TokenStream::read_scored, which packed sequences follow, too). Rows of a batch are padded on the right, where
/// nothing is scored. They come in the order given, or with a seed in one that it and the epoch decide.
class RowBatches final : public BatchSource {
 public:
  /// Throws DataError when there is no row, or one with fewer than two tokens.
  explicit RowBatches(std::shared_ptr<const TokenStream> rows, std::optional<std::uint64_t> seed = {});
  explicit RowBatches(const std::vector<std::vector<std::int32_t>>& rows, std::optional<std::uint64_t> seed = {});

  Batch next(std::int64_t rows) override;

 private:
  std::shared_ptr<const TokenStream> rows_;
  std::optional<EpochOrder> order_;
};

}  // namespace mla
