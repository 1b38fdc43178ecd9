#include "core/quantize/quantized_sequence.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "core/base/error.h"

namespace mla {
namespace {

/// Tokens for which a segment that will grow is made.
constexpr std::int64_t kSegmentTokens = 256;
/// Tokens of a window that is allocated at once.
constexpr std::int64_t kUsualWindow = 8192;

/// Scale rows that belong to `tokens` tokens.
std::int64_t scale_rows(const Packed& packed, std::int64_t tokens) {
  return packed.grouping == Grouping::kRows ? tokens / packed.group : tokens;
}

at::Tensor with_capacity(const at::Tensor& part, std::int64_t rows) {
  at::Tensor larger = at::empty({part.size(0), rows, part.size(2)}, part.options());
  larger.narrow(1, 0, part.size(1)).copy_(part);
  return larger;
}

Packed with_reserve(Packed packed) {
  packed.codes = with_capacity(packed.codes, kSegmentTokens);
  if (packed.grouping != Grouping::kOffline) {
    packed.scale = with_capacity(packed.scale, scale_rows(packed, kSegmentTokens));
    packed.zero = with_capacity(packed.zero, scale_rows(packed, kSegmentTokens));
  }
  if (packed.sparse.spread.defined()) packed.sparse.spread = with_capacity(packed.sparse.spread, kSegmentTokens);
  return packed;
}

void append_sparse(SparseRows& to, const SparseRows& more, std::int64_t tokens) {
  if (to.spread.defined()) {
    to.spread.narrow(1, tokens, more.spread.size(1)).copy_(more.spread);
    return;
  }
  to.end = at::cat({to.end, more.end + static_cast<std::int32_t>(to.entries())});
  to.channel = at::cat({to.channel, more.channel});
  to.value = at::cat({to.value, more.value});
}

/// Writes `more` behind the tokens of a segment with enough reserve.
void append_packed(Packed& to, const Packed& more) {
  const std::int64_t tokens = to.tokens();
  to.codes.narrow(1, tokens, more.tokens()).copy_(more.codes);
  if (to.grouping != Grouping::kOffline) {
    const std::int64_t at = scale_rows(to, tokens), rows = scale_rows(to, more.tokens());
    to.scale.narrow(1, at, rows).copy_(more.scale);
    to.zero.narrow(1, at, rows).copy_(more.zero);
  }
  // Rows of several heads are not in token order, so that only joined heads can have sparse rows that grow.
  if (to.sparse.defined()) append_sparse(to.sparse, more.sparse, tokens);
  if (to.fault.defined()) to.fault = at::minimum(to.fault, more.fault + tokens * to.width());
  to.shape[1] += more.tokens();
}

}  // namespace

Packed used_part(const Packed& packed) {
  Packed used = packed;
  const std::int64_t tokens = packed.tokens();
  used.codes = packed.codes.narrow(1, 0, tokens);
  if (packed.grouping != Grouping::kOffline && packed.scale.dim() == 3) {
    used.scale = packed.scale.narrow(1, 0, scale_rows(packed, tokens));
    used.zero = packed.zero.narrow(1, 0, scale_rows(packed, tokens));
  }
  if (packed.sparse.spread.defined()) used.sparse.spread = packed.sparse.spread.narrow(1, 0, tokens);
  return used;
}

QuantizedSequence::QuantizedSequence(std::shared_ptr<const Codec> codec, StreamUpdate update, std::int64_t heads,
                                     std::int64_t width, const at::TensorOptions& like)
    : codec_(std::move(codec)), update_(update), heads_(heads), width_(width) {
  token_group_ = codec_->token_group(codec_->joins_heads() ? heads * width : width);
  update_.first_tokens = std::max(update_.first_tokens, codec_->first_tokens());
  const std::int64_t block = update_.residual;
  if (update_.rule == UpdateRule::kAppendOnly && !by_token()) {
    if (block < 1 || (token_group_ && block % *token_group_ != 0)) {
      throw ConfigError(cat("cache.residual = ", block,
                            ": blocks of that many tokens are encoded together, so it must be ",
                            token_group_ ? cat("a multiple of ", *token_group_) : std::string("at least 1")));
    }
    codec_->check(std::vector<std::int64_t>{heads, block, width}, "cache.codec");
  } else if (by_token()) {
    codec_->check(codec_->joins_heads() ? std::vector<std::int64_t>{1, 1, heads * width}
                                        : std::vector<std::int64_t>{heads, 1, width},
                  "cache.codec");
  }
  first_ = at::empty({heads, 0, width}, like);
  window_ = at::empty({heads, 0, width}, like);
}

QuantizedSequence::QuantizedSequence(const QuantizedSequence& other) { *this = other; }

QuantizedSequence& QuantizedSequence::operator=(const QuantizedSequence& other) {
  if (this == &other) return *this;
  codec_ = other.codec_;
  update_ = other.update_;
  heads_ = other.heads_;
  width_ = other.width_;
  length_ = other.length_;
  token_group_ = other.token_group_;
  first_ = other.first_;  // replaced, never written
  segments_ = other.segments_;
  if (!segments_.empty() && segments_.back().codes.size(1) > segments_.back().tokens()) {
    Packed& last = segments_.back();
    last.codes = last.codes.clone();
    if (last.grouping != Grouping::kOffline) {
      last.scale = last.scale.clone();
      last.zero = last.zero.clone();
    }
    if (last.sparse.spread.defined()) last.sparse.spread = last.sparse.spread.clone();
  }
  window_ = other.residual().clone();
  window_begin_ = 0;
  window_length_ = other.window_length_;
  return *this;
}

at::Tensor QuantizedSequence::residual() const { return window_.narrow(1, window_begin_, window_length_); }

at::Tensor QuantizedSequence::packed_rows(const Packed& packed) const {
  const at::Tensor rows = decode(used_part(packed)).to(window_.options());
  if (!codec_->joins_heads()) return rows;
  return rows.view({packed.tokens(), heads_, width_}).transpose(0, 1);
}

at::Tensor QuantizedSequence::read() const {
  std::vector<at::Tensor> parts{first_};
  for (const Packed& segment : segments_) parts.push_back(packed_rows(segment));
  parts.push_back(residual());
  return at::cat(parts, 1);
}

at::Tensor QuantizedSequence::append(const at::Tensor& rows) {
  const at::Tensor given = rows.to(window_.options());
  const at::Tensor all = length_ == 0 ? given : at::cat({read(), given}, 1);
  store(given.detach(), all.detach());
  return all;
}

void QuantizedSequence::push(const at::Tensor& rows) { store(rows.detach().to(window_.options()), {}); }

/// `all` may be undefined: what append() returns, for encoding anew.
void QuantizedSequence::store(const at::Tensor& rows, const at::Tensor& all) {
  expects(rows.dim() == 3 && rows.size(0) == heads_ && rows.size(2) == width_,
          "cached rows must be [heads, count, width] of their stream");
  const bool first_call = length_ == 0;
  const std::int64_t exact = std::clamp<std::int64_t>(update_.first_tokens - length_, 0, rows.size(1));
  if (exact > 0) first_ = at::cat({first_, rows.narrow(1, 0, exact)}, 1);
  const std::int64_t count = rows.size(1) - exact;
  const at::Tensor others = rows.narrow(1, exact, count);
  if (update_.rule == UpdateRule::kRequantize) {
    if (count > 0 && (first_call || window_length_ + count >= update_.residual)) {
      const at::Tensor everything = all.defined() ? all : at::cat({read(), others}, 1);
      const at::Tensor encoded =
          everything.narrow(1, first_.size(1), length_ + rows.size(1) - first_.size(1)).contiguous();
      segments_.clear();
      window_begin_ = window_length_ = 0;
      encode(encoded);
    } else {
      keep(others);
    }
  } else {
    keep(others);
    if (by_token()) {
      if (window_length_ > update_.residual) encode_oldest(window_length_ - update_.residual);
    } else if (token_group_) {
      encode_oldest(window_length_ / update_.residual * update_.residual);
    } else {
      while (window_length_ >= update_.residual) encode_oldest(update_.residual);
    }
  }
  length_ += rows.size(1);
}

/// Puts rows at the end of the window.
void QuantizedSequence::keep(const at::Tensor& rows) {
  const std::int64_t needed = window_length_ + rows.size(1);
  if (window_begin_ + needed > window_.size(1)) {
    // Twice the residual: the window then moves to the front once every so many tokens, not at every one. A large
    // residual is made room for as tokens come.
    const std::int64_t wanted = std::min(2 * update_.residual + 1, std::max(2 * needed, kUsualWindow));
    const std::int64_t capacity = std::max({window_.size(1), needed, wanted});
    at::Tensor larger = at::empty({heads_, capacity, width_}, window_.options());
    larger.narrow(1, 0, window_length_).copy_(residual());
    window_ = std::move(larger);
    window_begin_ = 0;
  }
  window_.narrow(1, window_begin_ + window_length_, rows.size(1)).copy_(rows);
  window_length_ = needed;
}

void QuantizedSequence::encode_oldest(std::int64_t count) {
  if (count == 0) return;
  encode(window_.narrow(1, window_begin_, count).contiguous());
  window_begin_ += count;
  window_length_ -= count;
  // A long prompt needs its room once.
  if (window_.size(1) > 2 * update_.residual + kSegmentTokens) {
    window_ = residual().clone();
    window_begin_ = 0;
  }
}

void QuantizedSequence::encode(const at::Tensor& rows) {
  if (!codec_->joins_heads()) return add_segment(codec_->encode(rows));
  add_segment(codec_->encode(rows.transpose(0, 1).reshape({1, rows.size(1), heads_ * width_})));
}

void QuantizedSequence::add_segment(Packed packed) {
  const bool grows = token_group_.has_value() && update_.rule == UpdateRule::kAppendOnly &&
                     (packed.grouping != Grouping::kRows || kSegmentTokens % packed.group == 0);
  if (grows && !segments_.empty()) {
    Packed& last = segments_.back();
    if (last.tokens() + packed.tokens() <= last.codes.size(1)) return append_packed(last, packed);
    seal_last();
  }
  const bool reserves = grows && packed.tokens() < kSegmentTokens;
  segments_.push_back(reserves ? with_reserve(std::move(packed)) : std::move(packed));
  if (!reserves) seal_last();
}

/// No more tokens come into the last segment: sparse entries take no more room than they need.
void QuantizedSequence::seal_last() {
  Packed& last = segments_.back();
  if (last.sparse.spread.defined()) last.sparse = compacted(used_part(last).sparse);
}

std::int64_t QuantizedSequence::bytes() const {
  std::int64_t total = static_cast<std::int64_t>(first_.nbytes() + residual().nbytes());
  for (const Packed& segment : segments_) total += used_part(segment).bytes();
  return total;
}

std::int64_t QuantizedSequence::predicted_bytes() const {
  const std::int64_t first = std::min(length_, update_.first_tokens), others = length_ - first;
  // How many tokens wait to be encoded anew depends on how they came.
  std::int64_t waiting = window_length_;
  if (update_.rule == UpdateRule::kAppendOnly) {
    waiting = by_token() ? std::min(others, update_.residual) : others % update_.residual;
  }
  std::int64_t sparse = 0;
  for (const Packed& segment : segments_) sparse += used_part(segment).sparse.entries();
  const std::int64_t size = static_cast<std::int64_t>(window_.element_size());
  const std::vector<std::int64_t> shape = codec_->joins_heads()
                                              ? std::vector<std::int64_t>{1, others - waiting, heads_ * width_}
                                              : std::vector<std::int64_t>{heads_, others - waiting, width_};
  const std::int64_t packed = others > waiting ? codec_->predicted_bytes(shape, sparse) : 0;
  return (first + waiting) * heads_ * width_ * size + packed;
}

std::int64_t QuantizedSequence::allocated_bytes() const {
  std::int64_t total = static_cast<std::int64_t>(first_.nbytes() + window_.nbytes());
  for (const Packed& segment : segments_) total += segment.buffer_bytes();
  return total;
}

void QuantizedSequence::reset() {
  segments_.clear();
  first_ = first_.narrow(1, 0, 0);
  window_begin_ = window_length_ = length_ = 0;
}

}  // namespace mla
