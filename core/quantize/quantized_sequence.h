// One sequence's rows of one cache stream, stored quantised.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/quantize/codec.h"

namespace mla {

/// The part of a segment's buffers that counts: they may be longer than its tokens.
Packed used_part(const Packed& packed);

/// What happens to tokens that are already encoded when more arrive.
enum class UpdateRule {
  kAppendOnly,  ///< encoded once, never again (KIVI)
  kRequantize,  ///< all tokens are encoded anew whenever the residual is full (Hugging Face's QuantizedCache)
};

inline std::vector<std::pair<std::string, UpdateRule>> enum_names(UpdateRule) {
  return {{"append_only", UpdateRule::kAppendOnly}, {"requantize", UpdateRule::kRequantize}};
}

struct StreamUpdate {
  UpdateRule rule = UpdateRule::kAppendOnly;
  std::int64_t residual = 128;    ///< newest tokens kept as they are (see QuantizedSequence)
  std::int64_t first_tokens = 0;  ///< oldest tokens kept as they are, for ever (attention sinks)
};

/// The rows of one sequence in one stream, [heads, tokens, width]: first tokens as they are, then packed segments, then
/// the residual, in token order.
///
/// kAppendOnly: codecs that encode each token by itself keep the last `residual` tokens and encode older ones as they
/// leave the window; the others encode blocks of `residual` tokens when that many are there, so that the window holds
/// 0 … residual - 1. What is stored does not depend on how the tokens were divided into calls.
/// kRequantize: the first call encodes all its tokens; later, when held and new tokens outside the codes reach
/// `residual`, everything (decoded history and new) is encoded from scratch and the window is empty again.
///
/// Sequences of a batch are encoded one by one, so that none depends on its neighbours. Copies share segments that are
/// full and never written again.
///
/// All of it stands where the rows do, and nothing waits for another device, with one exception: outliers of codecs
/// that have them are counted when a segment is full (every 256 tokens) or all tokens are encoded anew. What a codec
/// cannot hold is told at once on the host, and by expect_sound() (core/quantize/limits.h) of the segments elsewhere.
class QuantizedSequence {
 public:
  /// `like` gives dtype and device of the rows kept as they are. Throws ConfigError when the codec cannot encode rows
  /// of this geometry.
  QuantizedSequence(std::shared_ptr<const Codec> codec, StreamUpdate update, std::int64_t heads, std::int64_t width,
                    const at::TensorOptions& like);
  QuantizedSequence(const QuantizedSequence& other);
  QuantizedSequence& operator=(const QuantizedSequence& other);
  QuantizedSequence(QuantizedSequence&&) noexcept = default;
  QuantizedSequence& operator=(QuantizedSequence&&) noexcept = default;

  /// Appends rows [heads, count, width] and returns what this step attends to, [heads, length, width]: the stored rows
  /// as they were before the call, then the new ones as given. The first call thus returns its argument: attention over
  /// a prompt is exact.
  at::Tensor append(const at::Tensor& rows);

  /// Appends without materialising anything, for kernels that read the packed segments.
  void push(const at::Tensor& rows);

  /// All rows as stored, [heads, length, width].
  at::Tensor read() const;

  std::int64_t length() const { return length_; }
  std::int64_t heads() const { return heads_; }
  std::int64_t width() const { return width_; }

  /// Bytes of the rows held: segments' used parts, first tokens and residual, counted from buffers.
  std::int64_t bytes() const;
  /// The same by formula, from lengths alone (and the number of sparse entries, which another device is waited for).
  std::int64_t predicted_bytes() const;
  /// Bytes that the buffers occupy, growth reserve included.
  std::int64_t allocated_bytes() const;

  void reset();

  /// For kernels. Segments' buffers may be longer than their tokens: codes and scales are [heads, capacity, …], of
  /// which the first shape[1] tokens count. Codecs that join heads have [1, capacity, …] for all heads.
  const at::Tensor& first() const { return first_; }  ///< [heads, n, width]
  const std::vector<Packed>& segments() const { return segments_; }
  at::Tensor residual() const;  ///< [heads, n, width], a view

 private:
  bool by_token() const { return token_group_ == 1; }
  at::Tensor packed_rows(const Packed& packed) const;
  void store(const at::Tensor& rows, const at::Tensor& all);
  void keep(const at::Tensor& rows);
  void encode_oldest(std::int64_t count);
  void encode(const at::Tensor& rows);
  void add_segment(Packed packed);
  void seal_last();

  std::shared_ptr<const Codec> codec_;
  StreamUpdate update_;
  std::int64_t heads_ = 0, width_ = 0, length_ = 0;
  std::optional<std::int64_t> token_group_;
  at::Tensor first_;  ///< [heads, n, width]
  std::vector<Packed> segments_;
  at::Tensor window_;  ///< [heads, capacity, width]: the residual and room around it
  std::int64_t window_begin_ = 0, window_length_ = 0;
};

}  // namespace mla
