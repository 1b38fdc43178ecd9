// Directions that the heads of a group have in common, and what is lost by keeping those alone.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace mla {

/// Orthonormal directions of a group of `heads` KV heads whose keys, or values, stand one after the other in a vector.
struct GroupDirections {
  at::Tensor basis;   ///< [heads * head_dim, width], float64
  at::Tensor values;  ///< eigenvalues of the Gram matrix, descending, all of them; undefined for mean pooling
};

/// The leading eigenvectors of a Gram matrix A^T A, float64 [size, size] (2406.07056, equations 7 to 12): of
/// activations A [tokens, size], or of stacked weights with A = W^T [hidden, size], whose left singular vectors they
/// are. Of each vector the entry of largest size is positive.
GroupDirections leading_directions(const at::Tensor& gram, std::int64_t width);

/// The mean of `heads` heads as a projection: [1; 1; …] / sqrt(heads) in each dim of a head.
GroupDirections mean_directions(std::int64_t heads, std::int64_t head_dim);

/// |A - A P P^T| / |A| in the Frobenius norm, of A with this Gram matrix; 0 of nothing.
double projection_error(const at::Tensor& gram, const at::Tensor& basis);

/// Rows and columns of group `index` of `groups` in a moment of all heads together.
at::Tensor group_block(const at::Tensor& moment, std::int64_t index, std::int64_t groups);

}  // namespace mla
