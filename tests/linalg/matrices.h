// Matrices with a chosen spectrum, and a slow independent decomposition to compare with.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

namespace mla::test {

/// A matrix with exactly these singular values (up to the rounding of its float64 entries) and random singular vectors.
at::Tensor matrix_with_spectrum(std::int64_t rows, std::int64_t columns, const std::vector<double>& values,
                                std::uint64_t seed);

/// A named matrix with the singular values of its stored entries.
struct SpectrumCase {
  std::string name;
  at::Tensor matrix;
  std::vector<double> values;
};

/// Flat, decaying, steep, clustered, rank-deficient, zero; tall, wide, square, one row, one column. Made once a dtype.
const std::vector<SpectrumCase>& spectrum_cases(at::ScalarType dtype);

/// Singular values, descending, by Eigen's divide and conquer in float64.
std::vector<double> reference_singular_values(const at::Tensor& matrix);

/// Frobenius norm of what the best approximation of `rank` leaves (Eckart and Young).
double best_error(const std::vector<double>& values, std::int64_t rank);

/// Largest entry of |rows rows^T - 1|, in float64.
double distance_from_orthonormal(const at::Tensor& rows);

/// Frobenius norm in float64.
double frobenius(const at::Tensor& tensor);

}  // namespace mla::test
