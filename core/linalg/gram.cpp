#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "core/linalg/svd_methods.h"

namespace mla {
namespace {

// Backward error of the Gram matrix and its eigenvectors, in rounding units of the Gram matrix's Frobenius norm, is
// this times cbrt(size): measured at most 2.9 in float32 and float64 for 64..2048 columns and flat to steep spectra.
constexpr double kBackwardError = 3;
// Margin on the energy that errors spread evenly would lose: measured at most a factor 26 in float32, for 192..1024
// columns, flat to steep and clustered spectra, and ranks of 1/8 to 7/8.
constexpr double kUnevenness = 32;

/// How much energy (squared singular values) the computed leading eigenvectors may hold less than the true ones, for
/// eigenvalues in falling order. A rounding error E of the Gram matrix mixes a kept direction i with a dropped one j by
/// E_ij / (l_i - l_j), which costs E_ij^2 / (l_i - l_j), or at most E_ij where the eigenvalues are that close. E is
/// taken to be spread evenly over the pairs, with a margin for its unevenness. On top comes that the eigenvectors are
/// orthonormal to relative precision only.
double lost_energy(const std::vector<double>& descending, std::size_t rank, double energy, double unit) {
  const auto size = static_cast<double>(descending.size());
  const double precision = kBackwardError * std::cbrt(size) * unit;
  double square = 0;
  for (const double value : descending) square += value * value;
  const double error = precision * std::sqrt(square) / size;
  double mixed = 0;
  for (std::size_t i = 0; i < rank; ++i) {
    for (std::size_t j = rank; j < descending.size(); ++j) {
      const double gap = descending[i] - descending[j];
      mixed += gap > error ? error * error / gap : error;
    }
  }
  return kUnevenness * mixed + precision * precision * energy;
}

/// Orthonormal columns along those of `images`, which are orthogonal up to `skew` relative to their lengths.
at::Tensor orthonormal(const at::Tensor& images, double skew) {
  const double unit = rounding_unit(images);
  if (skew < 16 * unit) return images / at::linalg_vector_norm(images, 2, at::IntArrayRef{0}, true);
  // Columns of tiny or zero length hold mostly what they should be orthogonal to. In order of falling length a
  // QR factorization takes that away, and fills up with any orthonormal columns where nothing is left.
  const at::Tensor lengths = at::linalg_vector_norm(images, 2, at::IntArrayRef{0}, true);
  return std::get<0>(at::linalg_qr(images / lengths.clamp_min(std::numeric_limits<float>::min()), "reduced"));
}

/// The Gram matrix A^T A; only its lower triangle is filled.
at::Tensor lower_gram(const at::Tensor& matrix) {
  constexpr std::int64_t kBlocks = 4;  // 10 of 16 products; more blocks save little and make them slower
  const std::int64_t size = matrix.size(1), step = std::max<std::int64_t>(1, (size + kBlocks - 1) / kBlocks);
  at::Tensor gram = at::zeros({size, size}, matrix.options());
  for (std::int64_t column = 0; column < size; column += step) {
    const std::int64_t width = std::min(step, size - column);
    // Rows column.. of this block column: the diagonal block and all below it.
    at::Tensor block = gram.narrow(0, column, size - column).narrow(1, column, width);
    block.copy_(at::mm(matrix.narrow(1, column, size - column).t(), matrix.narrow(1, column, width)));
  }
  return gram;
}

}  // namespace

RightBasis gram_basis(const at::Tensor& matrix, std::int64_t rank) {
  const bool wide = matrix.size(0) < matrix.size(1);
  const at::Tensor tall = wide ? matrix.t() : matrix;
  // The transpose of a row-major matrix has LAPACK's column-major layout.
  const auto [ascending, vectors] = at::linalg_eigh(lower_gram(tall).t(), "U");
  const at::Tensor values = ascending.flip(0).to(at::kCPU, at::kDouble).contiguous();
  const std::vector<double> squares(values.const_data_ptr<double>(), values.const_data_ptr<double>() + values.numel());
  const auto leading = static_cast<std::size_t>(rank);
  const double unit = rounding_unit(matrix);

  RightBasis basis;
  for (std::size_t i = 0; i < squares.size(); ++i) {
    basis.energy += std::max(0.0, squares[i]);
    if (i >= leading) basis.tail_energy += std::max(0.0, squares[i]);
  }
  basis.lost_energy = lost_energy(squares, leading, basis.energy, unit);
  basis.columns = vectors.narrow(1, values.numel() - rank, rank).flip(1);
  if (wide) {
    const double skew = squares[leading - 1] > 0 ? unit * squares[0] / squares[leading - 1] : 1;
    basis.columns = orthonormal(at::mm(tall, basis.columns), skew);
  }
  return basis;
}

}  // namespace mla
