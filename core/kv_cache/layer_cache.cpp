#include "core/kv_cache/layer_cache.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "core/base/error.h"

namespace mla {
namespace {

constexpr std::int64_t kFirstCapacity = 64;

}  // namespace

std::int64_t elements_per_token(const std::vector<StreamShape>& streams) {
  std::int64_t total = 0;
  for (const StreamShape& stream : streams) total += stream.elements();
  return total;
}

LayerCache::LayerCache(std::vector<StreamShape> streams, std::int64_t batch, const at::TensorOptions& like) {
  for (StreamShape& shape : streams) {
    at::Tensor buffer = at::empty({batch, shape.heads, 0, shape.width}, like);
    streams_.push_back({std::move(shape), std::move(buffer), 0});
  }
}

at::Tensor LayerCache::append(std::size_t index, const at::Tensor& tokens) {
  Stream& stream = streams_.at(index);
  expects(tokens.dim() == 4 && tokens.size(1) == stream.shape.heads && tokens.size(3) == stream.shape.width,
          "cached tokens must be [batch, heads, count, width] of their stream");
  const std::int64_t needed = stream.length + tokens.size(2);
  if (needed > stream.buffer.size(2)) {
    const std::int64_t capacity = std::max({kFirstCapacity, needed, 2 * stream.buffer.size(2)});
    at::Tensor larger =
        at::empty({stream.buffer.size(0), stream.shape.heads, capacity, stream.shape.width}, stream.buffer.options());
    larger.narrow(2, 0, stream.length).copy_(stream.buffer.narrow(2, 0, stream.length));
    stream.buffer = std::move(larger);
  }
  stream.buffer.narrow(2, stream.length, tokens.size(2)).copy_(tokens);
  stream.length = needed;
  return stream.buffer.narrow(2, 0, stream.length);
}

std::int64_t LayerCache::bytes() const {
  std::int64_t total = 0;
  for (const Stream& stream : streams_) {
    total += static_cast<std::int64_t>(stream.buffer.narrow(2, 0, stream.length).nbytes());
  }
  return total;
}

std::int64_t LayerCache::allocated_bytes() const {
  std::int64_t total = 0;
  for (const Stream& stream : streams_) total += static_cast<std::int64_t>(stream.buffer.nbytes());
  return total;
}

LayerCache LayerCache::select(const at::Tensor& rows) const {
  LayerCache selected = *this;
  for (Stream& stream : selected.streams_) {
    stream.buffer = stream.buffer.narrow(2, 0, stream.length).index_select(0, rows);
  }
  return selected;
}

void LayerCache::reset() {
  for (Stream& stream : streams_) stream.length = 0;
}

}  // namespace mla
