#include "core/linalg/svd.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "core/base/error.h"
#include "core/base/suggest.h"
#include "core/linalg/svd_choices.h"
#include "core/linalg/svd_methods.h"

namespace mla {
namespace {

// What auto may add to the squared error of the best truncation: (1 + 1e-6)^2 - 1.
constexpr double kExcessEnergy = 2e-6;
// Up to this size LAPACK's decomposition takes milliseconds, and there is nothing to gain.
constexpr std::int64_t kSmall = 128;
// Squares of entries outside this range are scaled first: they could leave the range of float32.
constexpr double kLargestScale = 1e6;

RowProjection finish(const at::Tensor& matrix, const at::Tensor& basis, std::string method) {
  RowProjection projection{basis.to(matrix.scalar_type()).t().contiguous(), {}, {}, std::move(method)};
  // The sign of a singular vector is arbitrary; this choice lets results agree between methods and machines. Exact unit
  // length makes |W|^2 - |image|^2 the squared error to far below the rounding of the vectors' angles.
  const at::Tensor at_largest = projection.right.abs().argmax(1, true);
  const at::Tensor lengths = at::linalg_vector_norm(projection.right, 2, at::IntArrayRef{1}, true, at::kDouble);
  projection.right.div_(at::where(projection.right.gather(1, at_largest) < 0, -lengths, lengths));
  projection.image = at::mm(matrix, projection.right.t());
  projection.values = at::sum(projection.image.square(), at::IntArrayRef{0}, false, at::kDouble).sqrt();
  // Rounding can swap neighbours whose values are nearly equal.
  const auto [sorted, order] = projection.values.sort(/*stable=*/true, /*dim=*/0, /*descending=*/true);
  if (!at::equal(sorted, projection.values)) {
    projection.right = projection.right.index_select(0, order);
    projection.image = projection.image.index_select(1, order);
  }
  projection.values = sorted.to(matrix.scalar_type());
  return projection;
}

/// Whether the truncation is as good as the exact one, but for what the dtype of the result cannot hold anyway.
bool is_safe(const RightBasis& basis, double unit) {
  return basis.lost_energy <= kExcessEnergy * basis.tail_energy + unit * unit * basis.energy;
}

RowProjection project_automatically(const at::Tensor& matrix, std::int64_t rank) {
  const double unit = rounding_unit(matrix);
  if (std::min(matrix.size(0), matrix.size(1)) > kSmall) {
    if (matrix.scalar_type() == at::kFloat) {
      const RightBasis single = gram_basis(matrix, rank);
      if (is_safe(single, unit)) return finish(matrix, single.columns, "gram_float32");
    }
    const RightBasis twice = gram_basis(matrix.to(at::kDouble), rank);
    if (is_safe(twice, unit)) return finish(matrix, twice.columns, "gram_float64");
  }
  return finish(matrix, exact_basis(matrix.to(at::kDouble), rank).columns, "exact");
}

RowProjection project(const at::Tensor& matrix, std::int64_t rank, const SvdOptions& options) {
  if (options.method == "exact") return finish(matrix, exact_basis(matrix, rank).columns, "exact");
  if (options.method == "gram") {
    return finish(matrix, gram_basis(matrix.to(at::kDouble), rank).columns, "gram_float64");
  }
  if (options.method == "randomized") {
    return finish(matrix, randomized_basis(matrix, rank, options).columns, "randomized");
  }
  expects(options.method == "auto", "unknown SVD method; validate() was not called");
  return project_automatically(matrix, rank);
}

RowProjection empty_projection(const at::Tensor& matrix) {
  return {at::empty({0, matrix.size(1)}, matrix.options()), at::empty({matrix.size(0), 0}, matrix.options()),
          at::empty({0}, matrix.options()), "exact"};
}

/// The entry of largest size. Throws DataError when one is not finite.
double largest_entry(const at::Tensor& matrix) {
  const double largest = matrix.abs().max().item<double>();
  if (std::isfinite(largest)) return largest;
  throw DataError(cat("singular values of a matrix [", matrix.size(0), ", ", matrix.size(1),
                      "]: it holds values that are not finite"));
}

}  // namespace

double rounding_unit(const at::Tensor& matrix) {
  return matrix.scalar_type() == at::kFloat ? std::numeric_limits<float>::epsilon()
                                            : std::numeric_limits<double>::epsilon();
}

const std::vector<std::string>& svd_methods() {
  static const std::vector<std::string> names{"auto", "exact", "gram", "randomized"};
  return names;
}

void SvdOptions::validate(const std::string& path) const {
  const std::vector<std::string>& known = svd_methods();
  if (std::find(known.begin(), known.end(), method) == known.end()) {
    throw ConfigError(cat(path, ".method: ", unknown_name(method, known)));
  }
  if (oversampling < 0) throw ConfigError(cat(path, ".oversampling = ", oversampling, ": must be >= 0"));
  if (power_iterations < 0) throw ConfigError(cat(path, ".power_iterations = ", power_iterations, ": must be >= 0"));
}

RowProjection project_rows(const at::Tensor& matrix, std::int64_t rank, const SvdOptions& options) {
  expects(matrix.dim() == 2, "an SVD needs a matrix");
  expects(matrix.scalar_type() == at::kFloat || matrix.scalar_type() == at::kDouble, "an SVD needs float32 or float64");
  expects(rank >= 0 && rank <= std::min(matrix.size(0), matrix.size(1)), "the rank of an SVD is out of range");
  if (matrix.numel() == 0) return empty_projection(matrix);
  const double scale = largest_entry(matrix);
  if (rank == 0) return empty_projection(matrix);
  if (scale == 0 || (scale < kLargestScale && scale > 1 / kLargestScale)) return project(matrix, rank, options);
  RowProjection projection = project(matrix / scale, rank, options);
  projection.image.mul_(scale);
  projection.values.mul_(scale);
  return projection;
}

TruncatedSvd truncated_svd(const at::Tensor& matrix, std::int64_t rank, const SvdOptions& options) {
  const RowProjection rows = project_rows(matrix, rank, options);
  if (rank == 0) return {rows.image, rows.values, rows.right, rows.method};
  const at::Tensor left = rows.image / rows.values;
  const at::Tensor products = at::mm(left.t(), left);
  const double skew = (products - at::eye(rank, left.options())).abs().max().item<double>();
  if (skew <= rounding_unit(matrix) * std::sqrt(static_cast<double>(matrix.size(0)))) {
    return {left, rows.values, rows.right, rows.method};
  }
  // The image's own decomposition is that of W within the span of the right vectors.
  const auto [u, values, turn] = at::linalg_svd(rows.image.to(at::kDouble), false);
  const at::Tensor right = at::mm(turn, rows.right.to(at::kDouble));
  const auto dtype = matrix.scalar_type();
  return {u.to(dtype), values.to(dtype), right.to(dtype), rows.method};
}

}  // namespace mla
