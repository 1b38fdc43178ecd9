// Drawing the next token from logits.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "core/base/random.h"

namespace mla {

struct SamplingOptions {
  double temperature = 0;  ///< 0: the likeliest token
  std::int64_t top_k = 0;  ///< 0: all
  double top_p = 1;
  double repetition_penalty = 1;
};

/// One token of logits [vocabulary], a CPU tensor that may be overwritten. In the order of the transformers library:
/// the penalty on tokens that `seen` holds (repetitions count once), the temperature, the top_k likeliest, of those the
/// fewest that hold top_p of their probability together. The first of equally likely tokens wins at temperature 0.
std::int64_t next_token(const at::Tensor& logits, const SamplingOptions& options, const std::vector<std::int64_t>& seen,
                        RandomStream& stream);

}  // namespace mla
