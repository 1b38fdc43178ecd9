// Weights of about one bit, as BiLLM makes them (arXiv 2402.04291).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace mla {

/// What makes a column salient.
enum class Saliency {
  kHessian,    ///< w^2 / d^2 of its elements, d of the column as SaliencyDiagonal says
  kMagnitude,  ///< |w|
};
/// Which d: the paper's equation 3 has the inverse Hessian's diagonal, the authors' code that of its Cholesky factor.
enum class SaliencyDiagonal { kCholesky, kInverse };
/// Whose error both searches make small: that of the saliency, binarised twice (the authors' code), or of the weights,
/// binarised once (the paper).
enum class SearchedMatrix { kSaliency, kWeights };
/// Where the break between small and large elements is looked for: 81 percentiles from 10 to 90 (the authors' code), or
/// as many fractions of the largest (the paper).
enum class BreakPoints { kPercentiles, kFractions };

std::vector<std::pair<std::string, Saliency>> enum_names(Saliency);
std::vector<std::pair<std::string, SaliencyDiagonal>> enum_names(SaliencyDiagonal);
std::vector<std::pair<std::string, SearchedMatrix>> enum_names(SearchedMatrix);
std::vector<std::pair<std::string, BreakPoints>> enum_names(BreakPoints);

struct OneBitOptions {
  std::int64_t block = 128;  ///< columns that are treated together; the last block may be narrower
  Saliency metric = Saliency::kHessian;
  SaliencyDiagonal diagonal = SaliencyDiagonal::kCholesky;
  SearchedMatrix search = SearchedMatrix::kSaliency;
  BreakPoints break_points = BreakPoints::kPercentiles;
  std::int64_t most_salient = 49;  ///< columns of a block that are tried as salient, and fewer than it has; 0: none are
  bool centred = true;             ///< groups are binarised about their mean (the authors' code), or about 0
  bool compensate = true;          ///< later blocks make up for the error of earlier ones
  double damping = 0.01;           ///< share of the Hessian's mean diagonal that is added to it
  at::ScalarType scales = at::kFloat;  ///< float32 or float16
};

/// A matrix [rows, columns]. Each block of columns has salient ones, binarised twice, and small and large elements,
/// binarised once; each row scales of its own in each block (core/ops/one_bit_rows.h).
struct OneBitMatrix {
  at::Tensor signs, seconds;         ///< uint8 [rows, columns], 0 and 1
  at::Tensor salient;                ///< uint8 [columns], 0 and 1
  at::Tensor scales;                 ///< [rows, blocks, 4 or 7]
  std::vector<double> break_points;  ///< of each block, in units of what was searched
  double loss = 0;                   ///< half the sum of squared errors over d^2, where errors were compensated
};

/// `weight` [rows, columns] of a floating type. `hessian`: 2 x x^T averaged over what the matrix multiplies, float64
/// [columns, columns], or any multiple of it; undefined: all columns count alike, and nothing is compensated. Rows of a
/// column that nothing ever reaches become 0 before they are binarised. All arithmetic is float64. Throws DataError
/// for numbers that are not finite or have no scale in that type, and for a Hessian that has no Cholesky factor.
OneBitMatrix one_bit(const at::Tensor& weight, const at::Tensor& hessian, const OneBitOptions& options);

/// The numbers that it stands for, float32 [rows, columns].
at::Tensor decode_one_bit(const OneBitMatrix& matrix, std::int64_t block);

}  // namespace mla
