#include "core/kv_cache/layer_cache.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cstring>

#include "core/base/error.h"
#include "core/kv_cache/stream.h"

namespace mla {
namespace {

std::int64_t whole_blocks(std::int64_t tokens) {
  return (tokens + LayerCache::kBlock - 1) / LayerCache::kBlock * LayerCache::kBlock;
}

/// Copies the first count[b] tokens of each sequence behind the `begin[b]` that the buffer holds, head by head.
void copy_rows(const at::Tensor& buffer, const at::Tensor& tokens, const std::vector<std::int64_t>& begin,
               const std::vector<std::int64_t>& count) {
  const std::size_t element = buffer.element_size();
  const std::int64_t heads = buffer.size(1), width = buffer.size(3);
  if (width == 0) return;  // without rotated keys, say: there is no memory to copy
  char* to = static_cast<char*>(buffer.mutable_data_ptr());
  const char* from = static_cast<const char*>(tokens.const_data_ptr());
  for (std::int64_t b = 0; b < buffer.size(0); ++b) {
    const auto row = static_cast<std::size_t>(b);
    for (std::int64_t head = 0; head < heads; ++head) {
      for (std::int64_t t = 0; t < count[row]; ++t) {
        const std::int64_t source = b * tokens.stride(0) + head * tokens.stride(1) + t * tokens.stride(2);
        const std::int64_t target = b * buffer.stride(0) + head * buffer.stride(1) + (begin[row] + t) * width;
        std::memcpy(to + static_cast<std::size_t>(target) * element, from + static_cast<std::size_t>(source) * element,
                    static_cast<std::size_t>(width) * element);
      }
    }
  }
}

/// Says which stream met a value that its codec cannot hold.
template <class Work>
void in_stream(const std::string& name, const Work& work) {
  try {
    work();
  } catch (const DataError& error) {
    throw DataError(cat("cache of ", name, ": ", error.what()));
  }
}

}  // namespace

bool all_equal(const std::vector<std::int64_t>& values) {
  return std::adjacent_find(values.begin(), values.end(), std::not_equal_to<>()) == values.end();
}

std::int64_t elements_per_token(const std::vector<StreamShape>& streams) {
  std::int64_t total = 0;
  for (const StreamShape& stream : streams) total += stream.elements();
  return total;
}

LayerCache::LayerCache(std::vector<StreamShape> streams, std::int64_t batch, const at::TensorOptions& like,
                       std::vector<StreamStorage> storage)
    : shapes_(std::move(streams)), storage_(std::move(storage)), batch_(batch), like_(like) {
  expects(batch >= 1, "a cache has sequences");
  storage_.resize(shapes_.size());
  const auto rows = static_cast<std::size_t>(batch);
  held_.assign(shapes_.size(), std::vector<std::int64_t>(rows, 0));
  has_shared_.assign(rows, false);
  quantized_.resize(shapes_.size());
  for (std::size_t i = 0; i < shapes_.size(); ++i) {
    const StreamShape& shape = shapes_[i];
    plain_.push_back({is_plain(i) ? at::empty({batch, shape.heads, 0, shape.width}, like) : at::Tensor(), {}});
    if (is_plain(i)) continue;
    for (std::size_t row = 0; row < rows; ++row) {
      quantized_[i].emplace_back(storage_[i].codec, storage_[i].update, shape.heads, shape.width, like);
    }
  }
}

LayerCache::LayerCache(std::vector<StreamShape> streams, std::int64_t batch, const at::TensorOptions& like)
    : LayerCache(std::move(streams), batch, like, {}) {}
LayerCache::LayerCache(LayerCache&&) noexcept = default;
LayerCache& LayerCache::operator=(LayerCache&&) noexcept = default;
LayerCache::~LayerCache() = default;

bool LayerCache::is_plain(std::size_t index) const { return !storage_.at(index).codec; }

bool LayerCache::before_rotation(std::size_t index) const {
  return storage_.at(index).before_rotation || (!is_plain(index) && storage_[index].codec->keys_before_rotation());
}

const std::vector<std::int64_t>& LayerCache::lengths() const {
  expects(!held_.empty(), "a layer without streams holds no tokens; ask the model's cache");
  return held_.back();
}

std::int64_t LayerCache::length() const { return *std::max_element(lengths().begin(), lengths().end()); }

void LayerCache::begin_step(std::vector<std::int64_t> counts) {
  expects(counts.empty() || std::ssize(counts) == batch_, "one count for each sequence");
  counts_ = std::move(counts);
}

std::int64_t LayerCache::takes(std::int64_t row, std::int64_t given) const {
  if (counts_.empty()) return given;
  const std::int64_t count = counts_[static_cast<std::size_t>(row)];
  expects(count >= 0 && count <= given, "a sequence keeps at most the tokens given");
  return count;
}

std::int64_t LayerCache::shared_tokens(std::size_t index, std::int64_t row) const {
  const bool shares = plain_[index].shared.defined() && has_shared_[static_cast<std::size_t>(row)];
  return shares ? plain_[index].shared.size(1) : 0;
}

std::int64_t LayerCache::own_tokens(std::size_t index, std::int64_t row) const {
  return held_[index][static_cast<std::size_t>(row)] - shared_tokens(index, row);
}

void LayerCache::grow(std::size_t index, std::int64_t tokens, bool exactly) {
  at::Tensor& buffer = plain_[index].buffer;
  const std::int64_t now = buffer.size(2);
  if (tokens <= now) return;
  // A quarter more each time: amortised constant time for a token, at most a fifth of the memory unused.
  const std::int64_t capacity = whole_blocks(exactly ? tokens : std::max(tokens, now + now / 4));
  // Zeros, since what lies behind a shorter sequence takes part in products with a weight of zero.
  at::Tensor larger = at::zeros({batch_, shapes_[index].heads, capacity, shapes_[index].width}, like_);
  if (now > 0) larger.narrow(2, 0, now).copy_(buffer);
  buffer = std::move(larger);
}

void LayerCache::reserve(std::int64_t tokens) {
  for (std::size_t i = 0; i < shapes_.size(); ++i) {
    if (is_plain(i)) grow(i, tokens, true);
  }
}

void LayerCache::store(std::size_t index, const at::Tensor& tokens) {
  std::vector<std::int64_t> begin, count;
  std::int64_t needed = 0;
  for (std::int64_t row = 0; row < batch_; ++row) {
    begin.push_back(own_tokens(index, row));
    count.push_back(takes(row, tokens.size(2)));
    needed = std::max(needed, begin.back() + count.back());
  }
  grow(index, needed, false);
  const at::Tensor& buffer = plain_[index].buffer;
  if (tokens.is_cpu() && buffer.is_cpu() && tokens.scalar_type() == buffer.scalar_type() && tokens.stride(3) == 1) {
    copy_rows(buffer, tokens, begin, count);
  } else if (all_equal(begin) && all_equal(count)) {
    buffer.narrow(2, begin[0], count[0]).copy_(tokens.narrow(2, 0, count[0]));
  } else {
    for (std::int64_t row = 0; row < batch_; ++row) {
      const auto b = static_cast<std::size_t>(row);
      buffer[row].narrow(1, begin[b], count[b]).copy_(tokens[row].narrow(1, 0, count[b]));
    }
  }
}

void LayerCache::push(std::size_t index, const at::Tensor& given) {
  const at::Tensor tokens = given.detach();  // what is remembered is data
  expects(tokens.dim() == 4 && tokens.size(0) == batch_ && tokens.size(1) == shapes_.at(index).heads &&
              tokens.size(3) == shapes_[index].width,
          "cached tokens must be [batch, heads, count, width] of their stream");
  if (is_plain(index)) store(index, tokens);
  for (std::int64_t row = 0; row < batch_; ++row) {
    const std::int64_t count = takes(row, tokens.size(2));
    const auto b = static_cast<std::size_t>(row);
    if (!is_plain(index) && count > 0) {
      in_stream(shapes_[index].name, [&] { quantized_[index][b].push(tokens[row].narrow(1, 0, count)); });
    }
    held_[index][b] += count;
  }
}

at::Tensor LayerCache::plain_rows(std::size_t index) const {
  const Plain& stream = plain_[index];
  std::int64_t own = 0, longest = 0;
  for (std::int64_t row = 0; row < batch_; ++row) {
    own = std::max(own, own_tokens(index, row));
    longest = std::max(longest, held_[index][static_cast<std::size_t>(row)]);
  }
  if (!stream.shared.defined()) return stream.buffer.narrow(2, 0, own);
  if (std::all_of(has_shared_.begin(), has_shared_.end(), [](bool shares) { return shares; })) {
    return at::cat({stream.shared.unsqueeze(0).expand({batch_, -1, -1, -1}), stream.buffer.narrow(2, 0, own)}, 2);
  }
  const at::Tensor all = at::zeros({batch_, shapes_[index].heads, longest, shapes_[index].width}, like_);
  for (std::int64_t row = 0; row < batch_; ++row) {
    std::int64_t at = 0;
    for (const StreamPart& part : parts(index, row)) {
      all[row].narrow(1, at, part.tokens).copy_(part.plain);
      at += part.tokens;
    }
  }
  return all;
}

at::Tensor LayerCache::append(std::size_t index, const at::Tensor& given) {
  if (const auto& observe = storage_.at(index).observe) {
    // What is remembered has no gradient: of the first tokens a calibration gets back what it gave.
    const bool first = held_[index].front() == 0;
    observe(given);
    if (first && is_plain(index)) {
      push(index, given);
      return given;
    }
  }
  if (is_plain(index)) {
    push(index, given);
    return plain_rows(index);
  }
  const at::Tensor tokens = given.detach();
  expects(tokens.dim() == 4 && tokens.size(0) == batch_, "cached tokens must be [batch, heads, count, width]");
  std::vector<at::Tensor> rows;
  std::int64_t longest = 0;
  for (std::int64_t row = 0; row < batch_; ++row) {
    const auto b = static_cast<std::size_t>(row);
    const std::int64_t count = takes(row, tokens.size(2));
    QuantizedSequence& sequence = quantized_[index][b];
    in_stream(shapes_[index].name, [&] {
      rows.push_back((count > 0 ? sequence.append(tokens[row].narrow(1, 0, count)) : sequence.read()).to(like_));
    });
    held_[index][b] += count;
    longest = std::max(longest, held_[index][b]);
  }
  if (batch_ == 1) return rows[0].unsqueeze(0);
  const at::Tensor all = at::zeros({batch_, shapes_[index].heads, longest, shapes_[index].width}, like_);
  for (std::int64_t row = 0; row < batch_; ++row) {
    const at::Tensor& from = rows[static_cast<std::size_t>(row)];
    all[row].narrow(1, 0, from.size(1)).copy_(from);
  }
  return all;
}

std::vector<StreamPart> LayerCache::parts(std::size_t index, std::int64_t row) const {
  std::vector<StreamPart> parts;
  const auto plain = [&](const at::Tensor& rows) {
    if (rows.defined() && rows.size(1) > 0) parts.push_back({rows.size(1), rows, nullptr});
  };
  if (is_plain(index)) {
    if (shared_tokens(index, row) > 0) plain(plain_[index].shared);
    plain(plain_[index].buffer.select(0, row).narrow(1, 0, own_tokens(index, row)));
    return parts;
  }
  const QuantizedSequence& sequence = quantized_[index][static_cast<std::size_t>(row)];
  plain(sequence.first());
  for (const Packed& segment : sequence.segments()) parts.push_back({segment.tokens(), {}, &segment});
  plain(sequence.residual());
  return parts;
}

std::int64_t LayerCache::bytes() const {
  std::int64_t total = 0;
  for (std::size_t i = 0; i < shapes_.size(); ++i) {
    for (const QuantizedSequence& sequence : quantized_[i]) total += sequence.bytes();
    if (!is_plain(i)) continue;
    const Plain& stream = plain_[i];
    if (stream.shared.defined()) total += static_cast<std::int64_t>(stream.shared.nbytes());
    for (std::int64_t row = 0; row < batch_; ++row) {
      total += static_cast<std::int64_t>(stream.buffer.select(0, row).narrow(1, 0, own_tokens(i, row)).nbytes());
    }
  }
  return total;
}

std::int64_t LayerCache::predicted_bytes() const {
  const auto element = static_cast<std::int64_t>(c10::elementSize(scalar_type()));
  std::int64_t total = 0;
  for (std::size_t i = 0; i < shapes_.size(); ++i) {
    for (const QuantizedSequence& sequence : quantized_[i]) total += sequence.predicted_bytes();
    if (!is_plain(i)) continue;
    std::int64_t tokens = plain_[i].shared.defined() ? plain_[i].shared.size(1) : 0;
    for (std::int64_t row = 0; row < batch_; ++row) tokens += own_tokens(i, row);
    total += tokens * shapes_[i].elements() * element;
  }
  return total;
}

std::int64_t LayerCache::allocated_bytes() const {
  std::int64_t total = 0;
  for (std::size_t i = 0; i < shapes_.size(); ++i) {
    for (const QuantizedSequence& sequence : quantized_[i]) total += sequence.allocated_bytes();
    if (!is_plain(i)) continue;
    total += static_cast<std::int64_t>(plain_[i].buffer.nbytes());
    if (plain_[i].shared.defined()) total += static_cast<std::int64_t>(plain_[i].shared.nbytes());
  }
  return total;
}

LayerCache LayerCache::select(const at::Tensor& rows) const {
  const at::Tensor index = rows.to(at::kCPU, at::kLong).contiguous();
  const std::int64_t* chosen = index.const_data_ptr<std::int64_t>();
  LayerCache selected(shapes_, index.numel(), like_, storage_);
  for (std::size_t i = 0; i < shapes_.size(); ++i) {
    if (is_plain(i)) selected.plain_[i].buffer = plain_rows(i).index_select(0, rows.to(like_.device()));
    for (std::int64_t row = 0; row < index.numel(); ++row) {
      const auto from = static_cast<std::size_t>(chosen[row]), to = static_cast<std::size_t>(row);
      selected.held_[i][to] = held_[i].at(from);
      if (!is_plain(i)) selected.quantized_[i][to] = quantized_[i][from];
    }
  }
  return selected;
}

LayerCache LayerCache::fork(std::int64_t row, std::int64_t count) const {
  expects(row >= 0 && row < batch_, "a fork begins at a sequence of the cache");
  LayerCache forked(shapes_, count, like_, storage_);
  forked.has_shared_.assign(static_cast<std::size_t>(count), true);
  for (std::size_t i = 0; i < shapes_.size(); ++i) {
    const auto from = static_cast<std::size_t>(row);
    std::fill(forked.held_[i].begin(), forked.held_[i].end(), held_[i][from]);
    for (QuantizedSequence& sequence : forked.quantized_[i]) sequence = quantized_[i][from];
    if (!is_plain(i)) continue;
    std::vector<at::Tensor> rows;
    for (const StreamPart& part : parts(i, row)) rows.push_back(part.plain);
    if (!rows.empty()) forked.plain_[i].shared = rows.size() == 1 ? rows[0] : at::cat(rows, 1);
  }
  return forked;
}

void LayerCache::reset() {
  for (std::int64_t row = 0; row < batch_; ++row) reset(row);
  for (Plain& stream : plain_) stream.shared = at::Tensor();
}

void LayerCache::reset(std::int64_t row) {
  const auto b = static_cast<std::size_t>(row);
  has_shared_.at(b) = false;
  for (std::size_t i = 0; i < shapes_.size(); ++i) {
    held_[i][b] = 0;
    if (!is_plain(i)) quantized_[i][b].reset();
    // Forks read what this sequence held: it is theirs now.
    at::Tensor& buffer = plain_[i].buffer;
    if (is_plain(i) && buffer.storage().use_count() > 1) buffer = buffer.clone();
  }
}

}  // namespace mla
