// One layer's attention with random weights, and what it gives through a cache.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "core/attention/attention.h"
#include "core/base/json.h"
#include "core/base/random.h"

namespace mla::test {

struct RandomLayer {
  ModelFrame frame;
  std::unique_ptr<Attention> attention;

  /// Of hidden states [batch, length, hidden], without a cache.
  at::Tensor uncached(const at::Tensor& hidden) const;
  /// The same, so many tokens of them at a time; the cache's bytes are those predicted.
  at::Tensor through_cache(const at::Tensor& hidden, const std::vector<std::int64_t>& chunks,
                           DecodePath path = DecodePath::kAuto) const;
};

/// Attention as `config` describes it, in a model of hidden size 16, heads of 8 dims and 64 positions.
RandomLayer random_layer(const Json& config, at::ScalarType dtype, RandomStream& stream);

}  // namespace mla::test
