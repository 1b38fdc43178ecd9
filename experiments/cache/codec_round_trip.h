// Tensors through a codec and back, as commands show it.
#pragma once

#include <memory>
#include <string>

#include "core/base/json.h"
#include "core/quantize/round_trip.h"

namespace mla {

/// The codec of a config, calibrated where it needs that: on `sample`, or on x itself.
std::unique_ptr<Codec> make_codec(const Json& config, const StreamSample* sample, const at::Tensor& x);

/// A vector's elements as JSON, for options.
Json to_json_numbers(const at::Tensor& tensor);

/// The error of a round trip of x; codecs that work in float16 are held against x as they see it, rounded to float16.
TensorError codec_error(const RoundTrip& trip, const at::Tensor& x);

/// Error, sizes and iterations of a round trip.
Json describe(const RoundTrip& trip, const TensorError& error, int bits, std::int64_t shared_bytes);

/// Throws DataError naming `where` unless the values are [tokens, channels] and the weights, if any, of the same shape.
void expect_sample(const StreamSample& sample, const std::string& where);

}  // namespace mla
