// What linear maps multiply while calibration rows go through a layer, whatever kind of attention has them.
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <set>
#include <string>

#include "core/compress/calibration/layer_walk.h"

namespace mla {

/// 2 x x^T of the dense linear maps of these names, which belong to the layer that the walk stands before, averaged
/// over all x that each one multiplied: float64 [columns, columns] on the host. A map that its layer reads as a matrix,
/// and gives no x to, is missing. `decoder` is that of the walk; it is left as it was.
std::map<std::string, at::Tensor> input_moments(Decoder& decoder, const LayerWalk& walk,
                                                const std::set<std::string>& names);

/// The same of one x [..., columns] alone.
at::Tensor input_moment(const at::Tensor& x);

}  // namespace mla
