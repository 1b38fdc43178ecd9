// The cache of a whole model, layer by layer.
#include <ATen/ATen.h>

#include <algorithm>

#include "core/kv_cache/stream.h"
#include "core/model/decoder.h"

namespace mla {
namespace {

/// Cosines and sines of rows that stand behind `before` tokens each, one after the other, by frequencies that depend on
/// the length.
RotaryTable rows_by_length(const Rotary& rotary, const std::vector<std::int64_t>& before, std::int64_t count,
                           const at::TensorOptions& like) {
  const bool equal = all_equal(before);
  std::vector<at::Tensor> cosine, sine;
  for (std::size_t row = 0; row < (equal ? 1 : before.size()); ++row) {
    const RotaryTable own = rotary.table(before[row], count, before[row] + count, like);
    cosine.push_back(own.cosine);
    sine.push_back(own.sine);
  }
  return {at::cat(cosine), at::cat(sine)};
}

/// The same out of a table of all positions.
RotaryTable rows_of(const RotaryTable& all, const std::vector<std::int64_t>& before, std::int64_t count) {
  if (all_equal(before))
    return {all.cosine.narrow(0, before.front(), count), all.sine.narrow(0, before.front(), count)};
  const at::Tensor begin = at::tensor(before, at::kLong).unsqueeze(1);
  const at::Tensor index =
      (begin + at::arange(count, at::kLong)).flatten().to(at::device(all.cosine.device()), /*non_blocking=*/true);
  return {all.cosine.index_select(0, index), all.sine.index_select(0, index)};
}

}  // namespace

std::int64_t DecoderCache::length() const {
  return lengths_.empty() ? 0 : *std::max_element(lengths_.begin(), lengths_.end());
}

std::int64_t DecoderCache::bytes() const {
  std::int64_t total = 0;
  for (const LayerCache& layer : layers_) total += layer.bytes();
  return total;
}

std::int64_t DecoderCache::predicted_bytes() const {
  std::int64_t total = 0;
  for (const LayerCache& layer : layers_) total += layer.predicted_bytes();
  return total;
}

std::int64_t DecoderCache::allocated_bytes() const {
  std::int64_t total = 0;
  for (const LayerCache& layer : layers_) total += layer.allocated_bytes();
  return total;
}

void DecoderCache::reserve(std::int64_t tokens) {
  for (LayerCache& layer : layers_) layer.reserve(tokens);
}

void DecoderCache::begin_step(const std::vector<std::int64_t>& counts) {
  counts_ = counts;
  for (LayerCache& layer : layers_) layer.begin_step(counts);
}

void DecoderCache::end_step(std::int64_t given) {
  for (std::size_t row = 0; row < lengths_.size(); ++row) lengths_[row] += counts_.empty() ? given : counts_[row];
}

void DecoderCache::reset() {
  for (LayerCache& layer : layers_) layer.reset();
  std::fill(lengths_.begin(), lengths_.end(), 0);
}

void DecoderCache::reset(std::int64_t row) {
  for (LayerCache& layer : layers_) layer.reset(row);
  lengths_.at(static_cast<std::size_t>(row)) = 0;
}

DecoderCache DecoderCache::select(const at::Tensor& rows) const {
  DecoderCache selected;
  for (const LayerCache& layer : layers_) selected.layers_.push_back(layer.select(rows));
  const at::Tensor index = rows.to(at::kCPU, at::kLong).contiguous();
  for (std::int64_t i = 0; i < index.numel(); ++i) {
    selected.lengths_.push_back(lengths_.at(static_cast<std::size_t>(index.const_data_ptr<std::int64_t>()[i])));
  }
  selected.positions_ = positions_;
  return selected;
}

DecoderCache DecoderCache::fork(std::int64_t row, std::int64_t count) const {
  DecoderCache forked;
  for (const LayerCache& layer : layers_) forked.layers_.push_back(layer.fork(row, count));
  forked.lengths_.assign(static_cast<std::size_t>(count), lengths_.at(static_cast<std::size_t>(row)));
  forked.positions_ = positions_;
  return forked;
}

void Decoder::place(DecoderCache& cache, std::int64_t count, ForwardContext& context) const {
  context.before = cache.lengths();
  const std::int64_t longest = cache.length() + count;
  for (const auto& [use, rotary] : rotaries_) {
    RopeTables& tables = context.tables[use];
    if (rotary.depends_on_length()) {
      tables.history = rotary.table(0, longest, longest, options());
      tables.rotary = rows_by_length(rotary, context.before, count, options());
      continue;
    }
    RotaryTable& all = cache.positions_[use];
    if (!all.cosine.defined() || all.cosine.size(0) < longest)
      all = rotary.table(0, longest + longest / 2 + 64, longest, options());
    tables.history = {all.cosine.narrow(0, 0, longest), all.sine.narrow(0, 0, longest)};
    tables.rotary = rows_of(all, context.before, count);
  }
}

}  // namespace mla
