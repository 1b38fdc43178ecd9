#include "core/compress/layers/head_directions.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "core/base/error.h"

namespace mla {

GroupDirections leading_directions(const at::Tensor& gram, std::int64_t width) {
  expects(gram.size(0) == gram.size(1) && width <= gram.size(0), "as many directions as there are dims, at most");
  if (!gram.isfinite().all().item<bool>()) throw DataError("the moments of keys or values are not finite");
  const auto [ascending, vectors] = at::linalg_eigh(gram.to(at::kDouble));
  at::Tensor basis = vectors.flip({1}).narrow(1, 0, width);
  const at::Tensor largest = basis.gather(0, basis.abs().argmax(0, true));
  return {(basis * largest.sign()).contiguous(), ascending.flip({0}).clamp_min(0)};
}

GroupDirections mean_directions(std::int64_t heads, std::int64_t head_dim) {
  return {at::eye(head_dim, at::kDouble).repeat({heads, 1}) / std::sqrt(static_cast<double>(heads)), {}};
}

double projection_error(const at::Tensor& gram, const at::Tensor& basis) {
  const double all = gram.trace().item<double>();
  if (!(all > 0)) return 0;
  const double kept = (at::mm(gram, basis) * basis).sum().item<double>();
  return std::sqrt(std::max(0.0, 1 - kept / all));
}

at::Tensor group_block(const at::Tensor& moment, std::int64_t index, std::int64_t groups) {
  const std::int64_t size = moment.size(0) / groups;
  return moment.narrow(0, index * size, size).narrow(1, index * size, size);
}

}  // namespace mla
