// How sensitive layers are by the condition numbers of their weights, and widths that follow (LoRC, arXiv 2410.03111,
// section 4.2).
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

namespace mla {

/// ln(largest / smallest singular value) of a matrix, by its decomposition in float64; 0 of a matrix without rows. A
/// matrix that is singular to rounding counts as one at the limit of it.
double log_condition(const at::Tensor& matrix);
/// The same of singular values, descending.
double log_condition_of(const at::Tensor& singular_values);

/// Of each layer the sum over itself and all layers behind it: ln of the cumulative condition number.
std::vector<double> cumulative(const std::vector<double>& log_conditions);

/// most (1 - (max c - c_l) / (max c - min c) (1 - least / most)) of each layer's cumulative c_l, not rounded: `most`
/// for the largest, `least` for the smallest; `most` where all are alike.
std::vector<double> progressive_widths(const std::vector<double>& cumulative, double least, double most);

}  // namespace mla
