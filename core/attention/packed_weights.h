// Linear maps whose matrix is held as codes of a codec.
#pragma once

#include <memory>
#include <string>

#include "core/attention/linear.h"
#include "core/quantize/codec.h"

namespace mla {

/// The storage of a matrix of this shape as codes of the codec, which is called `name`; null where its tensors lean on
/// a calibration and so cannot hold weights. Throws ConfigError, naming `path`, where the shape does not fit the codec.
std::shared_ptr<const WeightStorage> packed_storage(const Codec& codec, const std::string& name,
                                                    const MatrixShape& shape, const std::string& path);

/// The map with its matrix encoded as one tensor [rows, columns]; the bias stays. `storage` is what packed_storage()
/// gave. Throws DataError for numbers that have no codes.
Linear pack(const Linear& map, const Codec& codec, std::shared_ptr<const WeightStorage> storage);

}  // namespace mla
