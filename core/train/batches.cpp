#include "core/train/batches.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "core/base/checks.h"
#include "core/base/error.h"

namespace mla {
namespace {

using Row = std::vector<std::int32_t>;

/// A batch whose row i predicts every token of rows[i] from those before it.
Batch make_batch(const std::vector<Row>& rows) {
  std::size_t longest = 0;
  for (const Row& row : rows) longest = std::max(longest, row.size());
  const std::int64_t count = std::ssize(rows), length = static_cast<std::int64_t>(longest) - 1;
  Batch batch{at::zeros({count, length}, at::kLong), at::full({count, length}, kIgnoredTarget, at::kLong)};
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const auto begin = static_cast<std::ptrdiff_t>(i) * length;
    std::copy(rows[i].begin(), rows[i].end() - 1, batch.ids.mutable_data_ptr<std::int64_t>() + begin);
    std::copy(rows[i].begin() + 1, rows[i].end(), batch.targets.mutable_data_ptr<std::int64_t>() + begin);
    batch.scored += std::ssize(rows[i]) - 1;
  }
  return batch;
}

/// Keeps the documents of one row apart: `first` is the row's first token in `stream`; `begins` and `targets` are the
/// row's `length` entries of Batch::documents and Batch::targets. Returns the number of targets taken away.
std::int64_t separate_documents(const TokenStream& stream, std::int64_t first, std::int64_t length,
                                std::int64_t* begins, std::int64_t* targets) {
  std::int64_t removed = 0, begin = 0, document = document_of(stream, first);
  std::int64_t end = stream.document_begin(document + 1) - first;  // where the document at hand ends, in the row
  for (std::int64_t i = 0; i < length; ++i) {
    begins[i] = begin;
    if (i + 1 < end) continue;
    removed += targets[i] != kIgnoredTarget;
    targets[i] = kIgnoredTarget;
    begin = i + 1;
    while (end <= i + 1 && document + 1 < stream.documents()) end = stream.document_begin(++document + 1) - first;
  }
  return removed;
}

/// Takes away the targets that the stream does not want predicted: row `row` of the batch begins with token `first`,
/// and has `count` targets.
void leave_unscored(const TokenStream& stream, std::int64_t first, std::int64_t count, std::int64_t row, Batch& batch) {
  if (stream.scores_all()) return;
  std::vector<std::uint8_t> scored(static_cast<std::size_t>(count));
  stream.read_scored(first + 1, scored);
  std::int64_t* targets = batch.targets.mutable_data_ptr<std::int64_t>() + row * batch.targets.size(1);
  for (std::size_t i = 0; i < scored.size(); ++i) {
    if (scored[i] == 1 || targets[i] == kIgnoredTarget) continue;
    targets[i] = kIgnoredTarget;
    --batch.scored;
  }
}

}  // namespace

std::vector<std::pair<std::string, DocumentBoundaries>> enum_names(DocumentBoundaries) {
  return {{"kept", DocumentBoundaries::kKept}, {"masked", DocumentBoundaries::kMasked}};
}

std::int64_t EpochOrder::at(std::int64_t position) {
  if (const std::int64_t epoch = position / count_; epoch != epoch_) {
    order_.emplace(count_, seed_, cat(name_, ".", epoch));
    epoch_ = epoch;
  }
  return (*order_)(position % count_);
}

PackedBatches::PackedBatches(std::vector<WeightedTokens> sources, std::int64_t length, std::uint64_t seed,
                             DocumentBoundaries boundaries)
    : schedule_([&] {
        std::vector<double> weights;
        for (const WeightedTokens& source : sources) weights.push_back(source.weight);
        return MixtureSchedule(weights);
      }()),
      length_(length),
      boundaries_(boundaries) {
  check_at_least_one("sequence_length", length);
  for (WeightedTokens& source : sources) {
    const std::int64_t tokens = source.tokens->tokens();
    if (tokens <= length) {
      throw DataError(cat("training text", source.name.empty() ? "" : " of " + source.name, ": expected at least ",
                          length + 1, " tokens for one sequence, found ", tokens));
    }
    const std::int64_t sequences = (tokens - 1) / length;
    sources_.push_back({std::move(source.tokens), sequences, {sequences, seed, cat("train.order.", sources_.size())}});
  }
}

PackedBatches::PackedBatches(const std::vector<std::vector<std::int32_t>>& documents, std::int64_t length,
                             std::uint64_t seed)
    : PackedBatches({{std::make_shared<MemoryTokens>(documents)}}, length, seed) {}

std::int64_t PackedBatches::first_token(const MixtureSchedule::Draw& draw) {
  return sources_.at(draw.source).order.at(draw.number) * length_;
}

Batch PackedBatches::next(std::int64_t rows) {
  std::vector<Row> chosen;
  std::vector<std::pair<const TokenStream*, std::int64_t>> places;
  for (std::int64_t i = 0; i < rows; ++i, ++position_) {
    const MixtureSchedule::Draw draw = schedule_.at(position_);
    places.emplace_back(sources_.at(draw.source).tokens.get(), first_token(draw));
    chosen.emplace_back(static_cast<std::size_t>(length_ + 1));
    places.back().first->read(places.back().second, chosen.back());
  }
  Batch batch = make_batch(chosen);
  for (std::int64_t i = 0; i < rows; ++i) {
    const auto [stream, first] = places[static_cast<std::size_t>(i)];
    leave_unscored(*stream, first, length_, i, batch);
  }
  if (boundaries_ == DocumentBoundaries::kKept) return batch;
  batch.documents = at::empty_like(batch.ids);
  for (std::int64_t i = 0; i < rows; ++i) {
    const auto [stream, first] = places[static_cast<std::size_t>(i)];
    batch.scored -=
        separate_documents(*stream, first, length_, batch.documents.mutable_data_ptr<std::int64_t>() + i * length_,
                           batch.targets.mutable_data_ptr<std::int64_t>() + i * length_);
  }
  return batch;
}

RowBatches::RowBatches(std::shared_ptr<const TokenStream> rows, std::optional<std::uint64_t> seed)
    : rows_(std::move(rows)) {
  const std::int64_t count = rows_->documents();
  if (count < 1) throw DataError("training rows: expected at least one, found none");
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t size = rows_->document_begin(i + 1) - rows_->document_begin(i);
    if (size < 2) throw DataError(cat("training rows: row ", i, ": expected at least 2 tokens, found ", size));
  }
  if (seed) order_.emplace(count, *seed, "train.rows");
}

RowBatches::RowBatches(const std::vector<std::vector<std::int32_t>>& rows, std::optional<std::uint64_t> seed)
    : RowBatches(std::make_shared<MemoryTokens>(rows), seed) {}

Batch RowBatches::next(std::int64_t rows) {
  std::vector<Row> chosen;
  std::vector<std::int64_t> begins;
  for (std::int64_t i = 0; i < rows; ++i, ++position_) {
    const std::int64_t row = order_ ? order_->at(position_) : position_ % rows_->documents();
    const std::int64_t begin = rows_->document_begin(row);
    chosen.emplace_back(static_cast<std::size_t>(rows_->document_begin(row + 1) - begin));
    rows_->read(begin, chosen.back());
    begins.push_back(begin);
  }
  Batch batch = make_batch(chosen);
  for (std::size_t i = 0; i < chosen.size(); ++i)
    leave_unscored(*rows_, begins[i], std::ssize(chosen[i]) - 1, static_cast<std::int64_t>(i), batch);
  return batch;
}

}  // namespace mla
