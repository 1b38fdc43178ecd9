// What codecs can hold: finite numbers, within the range of the types that store them.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>

#include "core/quantize/codec.h"

namespace mla {

/// Throws DataError naming `codec`, place and value for the first element of `x` that is no finite number, or whose
/// counterpart in `values`, float32 of the same shape after rounding to what the codec computes in, is none (70000 in
/// float16). Codes of such elements would be arbitrary, and all of their group would come back wrong.
void expect_encodable(const at::Tensor& x, const at::Tensor& values, const std::string& codec);

/// Throws DataError naming `codec` and group when a scale or a zero is no finite number, or when the smallest or
/// largest code of a group would be decoded to none: the group spans more, or less, than its scale's type can tell.
void expect_decodable(const Packed& packed, const std::string& codec);

/// The sizes of groups that divide `size` and take whole bytes, as text for messages: "4, 8, 16", or "none".
std::string fitting_groups(std::int64_t size, int bits);

}  // namespace mla
