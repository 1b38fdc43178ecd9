// Attention of one new token per sequence over what a cache holds, read where it lies.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace mla {

/// Packed rows of one stream: codes of 2, 3, 4 or 8 bits, each row one little-endian bit string. A number is
/// code * scale + zero, (code - zero) * scale, or (code + zero) / scale.
struct PackedSpan {
  int bits = 0;  ///< 0: not packed
  const std::uint8_t* codes = nullptr;
  std::int64_t row_bytes = 0, head_bytes = 0;  ///< from a token to the next, from a head to the next
  const void *scale = nullptr, *zero = nullptr;
  bool half = false;             ///< scale and zero are float16, else float32
  std::int64_t head_scales = 0;  ///< from a head's first scale to the next one's
  std::int64_t group = 0;        ///< elements of a group
  bool across_tokens = false;    ///< a group is one channel of `group` tokens, else `group` channels of one token
  enum Formula { kScaledPlusZero, kLessZeroScaled, kPlusZeroDivided } formula = kScaledPlusZero;
};

/// Consecutive tokens of one stream of one sequence, [heads, tokens, width]: numbers of the queries' type, or packed.
struct DecodeSpan {
  std::int64_t tokens = 0;
  const void* data = nullptr;
  std::int64_t head_stride = 0, token_stride = 0;  ///< in elements
  PackedSpan packed;
};

/// One stream: heads of `width` elements; for each sequence of the batch its tokens in order.
struct DecodeStream {
  std::int64_t heads = 1, width = 0;
  std::vector<std::vector<DecodeSpan>> rows;
};

/// Keys whose columns k and width / 2 + k are turned as a pair when they are read, by tables of cosines and sines.
struct DecodeRotation {
  const void *cosine = nullptr, *sine = nullptr;  ///< [tokens, pairs] of the queries' type; null: keys as they are
  std::int64_t stride = 0;                        ///< from a token to the next
  const std::int64_t* pairs = nullptr;            ///< [width / 2]: the tables' column of each pair; null: its own
};

/// Keys that are made of a stream's rows when they are read, before any rotation: of memory m the row times maps[m],
/// plus biases[m]. A tile of them is there at a time.
struct DecodeExpansion {
  const void* maps = nullptr;    ///< [memories, from, width] of the queries' type; null: rows are keys as they are
  const void* biases = nullptr;  ///< [memories, width]; null: none
  std::int64_t from = 0;         ///< columns of a row, from `column` on
};

/// Columns of a stream that serve as keys or values. `memories` of them are distinct, each read by heads / memories
/// consecutive query heads: memory m is head m of a stream with as many heads, otherwise the columns that begin at
/// `column` + m * `width` of the stream's only head. With an expansion each head of the stream serves memories / heads
/// consecutive memories.
struct DecodeMemory {
  std::size_t stream = 0;
  std::int64_t memories = 1, column = 0, width = 0;
  DecodeRotation rotation{};  ///< of keys that all heads share, or that are expanded
  DecodeExpansion expansion{};
};

/// softmax over a sequence's tokens of scale * (sum over keys of query . key), times values.
struct DecodeProblem {
  std::vector<DecodeStream> streams;
  std::vector<DecodeMemory> keys;
  std::vector<at::Tensor> queries;  ///< one for each of keys, [batch, heads, its width]; float32 or float64, CPU
  DecodeMemory values;
  double scale = 1;
  std::int64_t window = 0;  ///< only the last so many tokens; 0: all
};

/// Returns [batch, heads, values.width]; zeros for a sequence without tokens. Online softmax over tiles of tokens
/// (arXiv 1805.02867, 2205.14135); heads that share a memory share one read of it; packed tokens are unpacked tile by
/// tile. Threads take sequences, groups of heads and stretches of tokens, whose results are merged in order: the result
/// does not depend on the number of threads.
at::Tensor decode_attention(const DecodeProblem& problem);

}  // namespace mla
