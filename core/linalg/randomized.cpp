#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include <algorithm>

#include "core/linalg/svd_methods.h"

namespace mla {
namespace {

at::Tensor orthonormal_columns(const at::Tensor& matrix) { return std::get<0>(at::linalg_qr(matrix, "reduced")); }

}  // namespace

RightBasis randomized_basis(const at::Tensor& matrix, std::int64_t rank, const SvdOptions& options) {
  const std::int64_t width = std::min({rank + options.oversampling, matrix.size(0), matrix.size(1)});
  const at::Generator generator = at::detail::createCPUGenerator(options.seed);
  const at::Tensor sketch = at::randn({matrix.size(0), width}, generator, at::kFloat).to(matrix.options());
  at::Tensor basis = orthonormal_columns(at::mm(matrix.t(), sketch));
  for (std::int64_t pass = 0; pass < options.power_iterations; ++pass) {
    basis = orthonormal_columns(at::mm(matrix.t(), orthonormal_columns(at::mm(matrix, basis))));
  }
  // Rayleigh-Ritz: the decomposition of the matrix within the span that was found.
  const auto turn = std::get<2>(at::linalg_svd(at::mm(matrix, basis), /*full_matrices=*/false));
  return {at::mm(basis, turn.narrow(0, 0, rank).t())};
}

}  // namespace mla
