// What a codec does to one tensor: the tensor after encoding and decoding, its error and its size.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "core/quantize/codec.h"

namespace mla {

/// How far `after` lies from `before`; sums in float64.
struct TensorError {
  double mse = 0;  ///< mean squared error
  double mae = 0;  ///< mean absolute error
  double max_abs = 0;
  double rel_fro = 0;        ///< || after - before || / || before ||, Frobenius; 0 where both are 0
  double dequant_sum = 0;    ///< of `after`
  double dequant_sumsq = 0;  ///< of `after`
  bool finite = true;        ///< all of `after` are numbers

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("mse", self.mse, "mean squared error");
    visit("mae", self.mae, "mean absolute error");
    visit("max_abs", self.max_abs, "largest absolute error");
    visit("rel_fro", self.rel_fro, "Frobenius norm of the error over that of the tensor");
    visit("dequant_sum", self.dequant_sum, "sum of the decoded elements");
    visit("dequant_sumsq", self.dequant_sumsq, "sum of their squares");
    visit("finite", self.finite, "whether all decoded elements are numbers");
  }
};

TensorError tensor_error(const at::Tensor& before, const at::Tensor& after);

struct RoundTrip {
  Packed packed;
  at::Tensor first;    ///< leading tokens kept as float16, [..., n, width]; undefined: none
  at::Tensor decoded;  ///< float32, the input's shape
  EncodeReport report;
  std::int64_t elements = 0;
  std::int64_t bytes = 0;            ///< counted from the buffers
  std::int64_t predicted_bytes = 0;  ///< by formula; the same

  double effective_bits() const { return 8.0 * static_cast<double>(bytes) / static_cast<double>(elements); }
};

/// Encodes and decodes x [..., tokens, width] where it stands, and waits for that device to know of elements without a
/// code (DataError). For codecs that join heads, x [batch, heads, tokens, width] is laid out
/// as [batch, tokens, heads * width] in between. Throws ConfigError where x does not fit the codec.
RoundTrip round_trip(const Codec& codec, const at::Tensor& x);

}  // namespace mla
