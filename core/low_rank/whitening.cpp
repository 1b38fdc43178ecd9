#include "core/low_rank/whitening.h"

#include <ATen/ATen.h>

#include <limits>
#include <tuple>

#include "core/base/error.h"

namespace mla {

DampedMoment::DampedMoment(const at::Tensor& moment, double damping) {
  at::Tensor damped = moment.to(at::kDouble).clone();
  if (!damped.isfinite().all().item<bool>()) throw DataError("the second moment on calibration data is not finite");
  damped.diagonal().add_(damping * damped.diagonal().mean());
  std::tie(values_, vectors_) = at::linalg_eigh(damped);
  // Rounding makes eigenvalues of a singular moment negative; where there is no energy at all, all directions are
  // alike.
  const double largest = values_.max().item<double>();
  values_ = largest > 0 ? values_.clamp_min(largest * std::numeric_limits<double>::epsilon()) : at::ones_like(values_);
}

at::Tensor DampedMoment::power(double exponent) const { return at::mm(vectors_ * values_.pow(exponent), vectors_.t()); }

Whitening power_whitening(const at::Tensor& moment, double damping, double exponent) {
  const DampedMoment damped(moment, damping);
  return {damped.power(exponent), damped.power(-exponent)};
}

}  // namespace mla
