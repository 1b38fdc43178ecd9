// Linear maps whose matrix is held as one-bit weights.
#pragma once

#include <memory>
#include <string>

#include "core/attention/linear.h"
#include "core/quantize/min_max.h"
#include "core/quantize/one_bit.h"

namespace mla {

/// The storage "billm" of matrices that one_bit() makes with these options: a sign and a second bit for each element, a
/// bit for each column, and four or seven scales for each row and block.
std::shared_ptr<const WeightStorage> one_bit_storage(const OneBitOptions& options);

/// The map with its matrix so encoded; the bias stays. Throws DataError as one_bit() does.
Linear hold_as_one_bit(const Linear& map, const at::Tensor& hessian, const OneBitOptions& options);

}  // namespace mla
