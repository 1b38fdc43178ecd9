// One new token per sequence through the decode kernel, over the streams of a cache.
#pragma once

#include <ATen/core/Tensor.h>

#include <utility>
#include <vector>

#include "core/kv_cache/layer_cache.h"
#include "core/ops/decode_attention.h"

namespace mla {

/// Whether the kernel serves the tokens of hidden [batch, length, width] on this cache: one new token each, on the CPU,
/// of a type it knows, no gradient wanted, and no packed rows of a form that it cannot read.
bool decode_serves(const at::Tensor& hidden, const LayerCache& cache);

/// Stores the new tokens of each stream and attends to them with what was there. A stream with a codec is read as it
/// was before the step, followed by the new tokens as they are: what LayerCache::append() would have returned.
class DecodeStep {
 public:
  /// `tokens`: of each stream [batch, heads, 1, width]. Plain streams take them now, others after attend().
  DecodeStep(LayerCache& cache, std::vector<at::Tensor> tokens);

  /// Rows [tokens, width] that all sequences see as one more stream, of which the number is returned; at least as many
  /// as the longest holds.
  std::size_t add_rows(const at::Tensor& rows);

  /// Returns [batch, heads, 1, value width]. Queries [batch, heads, width] come with the columns that are their keys;
  /// memories name streams of the cache.
  at::Tensor attend(const std::vector<std::pair<at::Tensor, DecodeMemory>>& queries, const DecodeMemory& values,
                    double scale, std::int64_t window);

 private:
  LayerCache& cache_;
  std::vector<at::Tensor> tokens_;
  std::vector<DecodeStream> streams_;
};

}  // namespace mla
