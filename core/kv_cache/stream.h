// The form in which a stream of a cache is stored, and where its tokens lie.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>

#include "core/quantize/codec.h"
#include "core/quantize/quantized_sequence.h"

namespace mla {

/// How a stream is stored: as it is (no codec), or by a codec, each sequence of the batch by itself.
struct StreamStorage {
  std::shared_ptr<const Codec> codec;
  StreamUpdate update;
  /// Called with what is appended, [batch, heads, count, width]; the first call's result is then what was given, with
  /// its gradient: for calibration. May be empty.
  std::function<void(const at::Tensor&)> observe = {};
  /// Whether keys are to be given before their rotation although no codec asks for it.
  bool before_rotation = false;
};

/// Where some consecutive tokens of one sequence lie: as they are, or packed.
struct StreamPart {
  std::int64_t tokens = 0;
  at::Tensor plain;                ///< [heads, tokens, width]; last stride 1
  const Packed* packed = nullptr;  ///< or this: codes [heads, capacity, …] of which the first `tokens` count
};

}  // namespace mla
