// How much a model's predictions tell of each weight.
#pragma once

#include <string>
#include <vector>

#include "core/compress/calibration/rows.h"
#include "core/model/decoder.h"

namespace mla {

/// The root of the mean, over rows, of the squared gradient of a row's mean loss by each element, of the layers' linear
/// maps whose names end in one of `maps` ("self_attn.k_proj"): float64, by whole name without ".weight". Throws as
/// for_row_gradients() does.
TensorMap fisher_information(const Decoder& decoder, const TokenRowList& rows, const std::vector<std::string>& maps);

}  // namespace mla
