// Tensors that a seed makes.
#pragma once

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include <cstdint>
#include <utility>
#include <vector>

namespace mla::test {

/// Standard normal numbers, drawn in float64 and rounded to `dtype`.
inline at::Tensor normal(std::vector<std::int64_t> shape, at::ScalarType dtype, std::uint64_t seed) {
  return at::randn(shape, at::detail::createCPUGenerator(seed), at::kDouble).to(dtype);
}

}  // namespace mla::test
