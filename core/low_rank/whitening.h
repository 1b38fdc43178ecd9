// Powers of a second moment, by which low-rank approximations weigh the directions of their inputs.
#pragma once

#include <ATen/core/Tensor.h>

namespace mla {

/// C + damping * mean diagonal of C * I, by its eigenvalues and eigenvectors, float64.
class DampedMoment {
 public:
  /// Throws DataError for a moment [n, n] that is not finite.
  DampedMoment(const at::Tensor& moment, double damping);

  const at::Tensor& values() const { return values_; }  ///< [n], ascending
  /// The symmetric power, [n, n].
  at::Tensor power(double exponent) const;

 private:
  at::Tensor values_, vectors_;
};

/// A map of inputs under which errors count alike in all directions, and the one that takes it back; undefined: inputs
/// as they are. W ~ [W root]_r inverse, with the leading singular triples of W root.
struct Whitening {
  at::Tensor root, inverse;  ///< [n, n], float64
};

/// The symmetric power and its inverse.
Whitening power_whitening(const at::Tensor& moment, double damping, double exponent);

}  // namespace mla
