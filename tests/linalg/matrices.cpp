#include "tests/linalg/matrices.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include <algorithm>
#include <cmath>

namespace mla::test {
namespace {

at::Tensor random_orthonormal(std::int64_t rows, std::int64_t columns, const at::Generator& generator) {
  return std::get<0>(at::linalg_qr(at::randn({rows, columns}, generator, at::kDouble), "reduced"));
}

std::vector<double> geometric(std::size_t count, double smallest) {
  std::vector<double> values;
  for (std::size_t i = 0; i < count; ++i) {
    values.push_back(std::pow(smallest, static_cast<double>(i) / static_cast<double>(count - 1)));
  }
  return values;
}

std::vector<double> power_law(std::size_t count) {
  std::vector<double> values;
  for (std::size_t i = 0; i < count; ++i) values.push_back(1 / std::sqrt(static_cast<double>(i + 1)));
  return values;
}

/// One direction a hundred times louder than the rest, which spoils the rest in float32.
std::vector<double> one_loud(std::size_t count) {
  std::vector<double> values = geometric(count, 0.1);
  values[0] = 100;
  return values;
}

/// `steps` groups of equal values, each a tenth of the one before.
std::vector<double> clustered(std::size_t count, std::size_t steps) {
  std::vector<double> values;
  for (std::size_t i = 0; i < count; ++i) values.push_back(std::pow(10.0, -static_cast<double>(i * steps / count)));
  return values;
}

std::vector<double> deficient(std::size_t count, std::size_t rank) {
  std::vector<double> values(count, 0.0);
  std::fill_n(values.begin(), rank, 1.0);
  return values;
}

}  // namespace

at::Tensor matrix_with_spectrum(std::int64_t rows, std::int64_t columns, const std::vector<double>& values,
                                std::uint64_t seed) {
  const at::Generator generator = at::detail::createCPUGenerator(seed);
  const auto rank = static_cast<std::int64_t>(values.size());
  const at::Tensor left = random_orthonormal(rows, rank, generator);
  const at::Tensor right = random_orthonormal(columns, rank, generator);
  return at::mm(left * at::tensor(values, at::kDouble), right.t());
}

namespace {

std::vector<SpectrumCase> make_cases(at::ScalarType dtype) {
  const at::Generator generator = at::detail::createCPUGenerator(1);
  // More than 128 on the smaller side: below, auto always takes the exact route.
  std::vector<SpectrumCase> cases{{"gaussian_tall", at::randn({180, 140}, generator, at::kDouble), {}},
                                  {"gaussian_wide", at::randn({140, 180}, generator, at::kDouble), {}},
                                  {"gaussian_square", at::randn({140, 140}, generator, at::kDouble), {}},
                                  {"gaussian_small", at::randn({40, 24}, generator, at::kDouble), {}},
                                  {"all_equal", matrix_with_spectrum(180, 140, std::vector<double>(140, 3.0), 2), {}},
                                  {"decaying", matrix_with_spectrum(180, 140, geometric(140, 1e-2), 3), {}},
                                  {"power_law", matrix_with_spectrum(180, 140, power_law(140), 10), {}},
                                  {"one_loud", matrix_with_spectrum(180, 140, one_loud(140), 11), {}},
                                  {"steep_tall", matrix_with_spectrum(180, 140, geometric(140, 1e-12), 4), {}},
                                  {"steep_wide", matrix_with_spectrum(140, 180, geometric(140, 1e-12), 5), {}},
                                  {"clustered_tall", matrix_with_spectrum(180, 140, clustered(140, 5), 6), {}},
                                  {"clustered_wide", matrix_with_spectrum(140, 180, clustered(140, 5), 7), {}},
                                  {"rank_20_tall", matrix_with_spectrum(180, 140, deficient(140, 20), 8), {}},
                                  {"rank_20_wide", matrix_with_spectrum(140, 180, deficient(140, 20), 9), {}},
                                  {"zero", at::zeros({180, 140}, at::kDouble), {}},
                                  {"one_row", at::randn({1, 140}, generator, at::kDouble), {}},
                                  {"one_column", at::randn({140, 1}, generator, at::kDouble), {}}};
  for (SpectrumCase& item : cases) {
    item.matrix = item.matrix.to(dtype);
    item.values = reference_singular_values(item.matrix);
  }
  return cases;
}

}  // namespace

const std::vector<SpectrumCase>& spectrum_cases(at::ScalarType dtype) {
  static const std::vector<SpectrumCase> single = make_cases(at::kFloat), twice = make_cases(at::kDouble);
  return dtype == at::kFloat ? single : twice;
}

double distance_from_orthonormal(const at::Tensor& rows) {
  if (rows.size(0) == 0) return 0;
  const at::Tensor wide = rows.to(at::kDouble);
  return (at::mm(wide, wide.t()) - at::eye(rows.size(0), at::kDouble)).abs().max().item<double>();
}

double frobenius(const at::Tensor& tensor) { return tensor.to(at::kDouble).norm().item<double>(); }

}  // namespace mla::test
