#include <ATen/ATen.h>

#include <Eigen/Dense>
#include <cmath>

#include "tests/linalg/matrices.h"

namespace mla::test {

std::vector<double> reference_singular_values(const at::Tensor& matrix) {
  const at::Tensor source = matrix.to(at::kDouble).contiguous();
  using RowMajor = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  const Eigen::Map<const RowMajor> map(source.const_data_ptr<double>(), source.size(0), source.size(1));
  const Eigen::MatrixXd copy = map;
  // Jacobi, not divide and conquer: Eigen 3.4's BDCSVD gives NaN for some rank-deficient matrices in optimised builds.
  const Eigen::VectorXd values = Eigen::JacobiSVD<Eigen::MatrixXd>(copy).singularValues();
  return {values.begin(), values.end()};
}

double best_error(const std::vector<double>& values, std::int64_t rank) {
  double square = 0;
  for (std::size_t i = static_cast<std::size_t>(rank); i < values.size(); ++i) square += values[i] * values[i];
  return std::sqrt(square);
}

}  // namespace mla::test
