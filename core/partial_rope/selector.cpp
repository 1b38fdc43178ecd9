#include "core/partial_rope/selector.h"

#include <ATen/ATen.h>

#include "core/base/error.h"

namespace mla {
namespace {

std::vector<std::vector<double>> norm_rows(const at::Tensor& matrix) {
  const at::Tensor dense = matrix.contiguous();
  std::vector<std::vector<double>> rows;
  for (std::int64_t i = 0; i < dense.size(0); ++i) {
    const double* begin = dense.const_data_ptr<double>() + i * dense.size(1);
    rows.emplace_back(begin, begin + dense.size(1));
  }
  return rows;
}

}  // namespace

PairNorms pair_norms(const LayerMeasures& measured) {
  const auto query = measured.find(kQueryNorms), key = measured.find(kKeyNorms);
  if (query == measured.end() || key == measured.end()) return {};
  return {norm_rows(query->second), norm_rows(key->second)};
}

std::vector<std::string> RopeSelector::measures() const {
  return needs_norms() ? std::vector<std::string>{kQueryNorms, kKeyNorms} : std::vector<std::string>{};
}

RotationShape RopeSelector::shape(std::int64_t layer, const HeadGeometry& geometry) const {
  const std::int64_t kept = pairs(layer, geometry);
  return {kept, false, geometry.head_dim - 2 * kept};
}

KeyRotation RopeSelector::rotation(std::int64_t layer, const HeadGeometry& geometry,
                                   const LayerMeasures& measured) const {
  const PairNorms norms = needs_norms() ? pair_norms(measured) : PairNorms{};
  return {select(layer, geometry, needs_norms() ? &norms : nullptr), {}, {}, {}};
}

}  // namespace mla
