// The cache of a whole model, layer by layer.
#include <ATen/ATen.h>

#include <algorithm>

#include "core/model/decoder.h"

namespace mla {

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

}  // namespace mla
