#include <ATen/ATen.h>

#include "core/linalg/svd_methods.h"

namespace mla {

RightBasis exact_basis(const at::Tensor& matrix, std::int64_t rank) {
  // Column-major storage is what LAPACK wants: the transpose of a row-major matrix is taken without a copy.
  const auto u = std::get<0>(at::linalg_svd(matrix.t(), /*full_matrices=*/false));
  return {u.narrow(1, 0, rank)};
}

}  // namespace mla
