// What codecs can hold: finite numbers, within the range of the types that store them.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>

#include "core/quantize/codec.h"

namespace mla {

/// Throws DataError naming `codec`, place and value for the first element of `x` that is no finite number, or whose
/// counterpart in `values`, float32 of the same shape after rounding to what the codec computes in, is none (70000 in
/// float16). Codes of such elements would be arbitrary, and all of their group would come back wrong. Waits for another
/// device.
void expect_encodable(const at::Tensor& x, const at::Tensor& values, const std::string& codec);

/// Throws DataError naming `codec` and group when a scale or a zero is no finite number, or when the smallest or
/// largest code of a group would be decoded to none: the group spans more, or less, than its scale's type can tell, or
/// was encoded on another device and held no numbers. Waits for another device.
void expect_decodable(const Packed& packed, const std::string& codec);

/// What encoding on another device left unsaid: throws DataError naming `codec` for an element without a code, and as
/// expect_decodable() does. Waits for the device; to be called when what was made of the codes is read.
void expect_sound(const Packed& packed, const std::string& codec);

/// Whether expect_sound() has nothing to say, bool [] where the codes stand; waits for nothing.
at::Tensor is_sound(const Packed& packed);

/// The sizes of groups that divide `size` and take whole bytes, as text for messages: "4, 8, 16", or "none".
std::string fitting_groups(std::int64_t size, int bits);

}  // namespace mla
