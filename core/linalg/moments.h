// Streaming means for statistics over more tokens than fit in memory.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace mla {

/// The mean over all tokens of batches [tokens, …], accumulated in float64.
class StreamingMean {
 public:
  /// Adds a batch [tokens, …]; all batches have the same trailing shape.
  void add(const at::Tensor& batch);

  std::int64_t count() const { return count_; }

  /// [ … ] in float64. At least one token must have been added.
  at::Tensor mean() const;

 private:
  at::Tensor sum_;
  std::int64_t count_ = 0;
};

}  // namespace mla
