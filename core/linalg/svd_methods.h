// The ways to find a basis of the leading right singular vectors, for svd.cpp alone.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "core/linalg/svd.h"

namespace mla {

/// Orthonormal columns [columns, rank] that span the leading right singular vectors, in the order of their values.
struct RightBasis {
  at::Tensor columns;
  // Filled in by gram_basis alone:
  double energy = 0;       ///< squared Frobenius norm of the matrix
  double tail_energy = 0;  ///< squared error of the exact truncation
  double lost_energy = 0;  ///< what rounding may add to the squared error; gram.cpp derives it
};

/// LAPACK's gesdd in the dtype of the matrix.
RightBasis exact_basis(const at::Tensor& matrix, std::int64_t rank);

/// Eigenvectors of the smaller Gram matrix, in the dtype of the matrix, with an estimate of the rounding error.
RightBasis gram_basis(const at::Tensor& matrix, std::int64_t rank);

/// Randomized range finder for the rows with power iterations; the seeded sketch is the same on every machine.
RightBasis randomized_basis(const at::Tensor& matrix, std::int64_t rank, const SvdOptions& options);

/// Distance from 1 to the next number of the matrix's dtype, float32 or float64.
double rounding_unit(const at::Tensor& matrix);

}  // namespace mla
