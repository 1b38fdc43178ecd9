// Truncated singular value decomposition: exact, by the Gram matrix, randomized, behind one function.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>

namespace mla {

/// How to compute it; a field list makes it readable from a config.
struct SvdOptions {
  std::string method = "auto";        ///< auto | exact | gram | randomized
  std::int64_t oversampling = 10;     ///< randomized: extra columns in the sketch
  std::int64_t power_iterations = 2;  ///< randomized: passes over the matrix; more for flat spectra
  std::uint64_t seed = 0;             ///< randomized: seed of the sketch

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("method", self.method, "auto | exact | gram (eigenvectors of the Gram matrix, in float64) | randomized");
    visit("oversampling", self.oversampling, "randomized: extra columns in the sketch");
    visit("power_iterations", self.power_iterations, "randomized: passes over the matrix");
    visit("seed", self.seed, "randomized: seed of the sketch");
  }
  /// Throws ConfigError for an unknown method or a negative count.
  void validate(const std::string& path) const;
};

/// W ~ image right, the best approximation of W whose rows lie in the span of `right`: all that a low-rank factor
/// needs, and cheaper than the whole decomposition. In the dtype of W.
struct RowProjection {
  at::Tensor right;    ///< [rank, columns], orthonormal rows: the leading right singular vectors
  at::Tensor image;    ///< [rows, rank] = W right^T
  at::Tensor values;   ///< [rank], the norms of the image's columns: singular values, descending
  std::string method;  ///< the method that ran: exact, gram_float32, gram_float64 or randomized
};

/// The leading `rank` right singular vectors of `matrix` [rows, columns], float32 or float64, and what they keep of it;
/// 0 <= rank <= min(rows, columns). Of each right vector the entry of largest size is positive.
///
/// exact: LAPACK's gesdd in the dtype of the matrix. gram: eigenvectors of W^T W or W W^T, whichever is smaller, in
/// float64. randomized: Halko, Martinsson, Tropp (2011), algorithm 4.4; inaccurate for flat spectra. auto: the
/// cheapest of gram in float32 (for float32 input), gram in float64 and exact in float64 whose truncation error is
/// within a factor 1 + 1e-6 of the smallest possible, or the dtype's rounding of it, by an estimate with a margin of
/// what rounding costs for this spectrum and rank.
/// Throws DataError when the matrix holds a value that is not finite.
RowProjection project_rows(const at::Tensor& matrix, std::int64_t rank, const SvdOptions& options);

/// W ~ left diag(values) right, the leading `rank` triples. All in the dtype of W.
struct TruncatedSvd {
  at::Tensor left;     ///< [rows, rank], orthonormal columns
  at::Tensor values;   ///< [rank], descending, >= 0
  at::Tensor right;    ///< [rank, columns], orthonormal rows
  std::string method;  ///< the method that ran (tells what "auto" chose)
};

/// As project_rows, with left singular vectors; costs more where the singular values differ by orders of magnitude.
TruncatedSvd truncated_svd(const at::Tensor& matrix, std::int64_t rank, const SvdOptions& options);

}  // namespace mla
