// Seconds and accuracy of the SVD methods on one layer of SmolLM-1.7B and Llama-2-7B, two threads.
#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Parallel.h>
#include <benchmark/benchmark.h>

#include <cmath>
#include <map>
#include <string>
#include <tuple>

#include "core/linalg/svd.h"

namespace mla {
namespace {

struct Geometry {
  const char* name;
  std::int64_t rows, columns;
};
// [K_nope; V] with 4 of 32 and 8 of 64 rotation pairs kept.
constexpr Geometry kGeometries[] = {{"smollm_1.7b", 32 * 56 + 32 * 64, 2048}, {"llama2_7b", 32 * 112 + 32 * 128, 4096}};

/// A float32 matrix and the exact energy of each of its directions, in falling order.
struct Problem {
  at::Tensor matrix, energies;
};

at::Tensor with_spectrum(const at::Tensor& gaussian, const at::Tensor& values) {
  const at::Generator generator = at::detail::createCPUGenerator(2);
  const at::Tensor square = at::randn({gaussian.size(1), gaussian.size(1)}, generator, at::kDouble);
  const at::Tensor left = std::get<0>(at::linalg_qr(gaussian, "reduced"));
  return at::mm(left * values, std::get<0>(at::linalg_qr(square, "reduced")));
}

/// `spectrum`: "flat" (Gaussian entries), "power" (i^-0.5) or "steep" (falling to 1e-12).
const Problem& problem(const Geometry& geometry, const std::string& spectrum) {
  static std::map<std::string, Problem> made;
  const auto [found, is_new] = made.try_emplace(geometry.name + spectrum);
  if (!is_new) return found->second;
  at::Tensor matrix = at::randn({geometry.rows, geometry.columns}, at::detail::createCPUGenerator(1), at::kDouble);
  const at::Tensor index = at::arange(geometry.columns, at::kDouble);
  if (spectrum == "power") matrix = with_spectrum(matrix, at::pow(index + 1, -0.5));
  if (spectrum == "steep")
    matrix = with_spectrum(matrix, at::pow(10.0, -12.0 / static_cast<double>(geometry.columns) * index));
  found->second.matrix = matrix.to(at::kFloat);
  const at::Tensor stored = found->second.matrix.to(at::kDouble);
  found->second.energies = at::linalg_eigvalsh(at::mm(stored.t(), stored)).flip(0).clamp_min(0);
  return found->second;
}

void decompose(benchmark::State& state, const Geometry& geometry, const std::string& method,
               const std::string& spectrum, std::int64_t rank) {
  at::set_num_threads(2);
  const Problem& given = problem(geometry, spectrum);
  SvdOptions options;
  options.method = method;
  RowProjection rows;
  for (auto iteration : state) {
    rows = project_rows(given.matrix, rank, options);
    benchmark::DoNotOptimize(rows.image);
  }
  const at::Tensor rest = given.matrix.to(at::kDouble) - at::mm(rows.image.to(at::kDouble), rows.right.to(at::kDouble));
  const double error = rest.norm().item<double>();
  const double best = std::sqrt(given.energies.slice(0, rank).sum().item<double>());
  const double size = std::sqrt(given.energies.sum().item<double>());
  state.counters["best"] = best / size;
  state.counters["excess"] = (error - best) / size;
  state.SetLabel(rows.method);
}

void register_one(const Geometry& geometry, const std::string& spectrum, const std::string& method, std::int64_t rank) {
  const std::string name = geometry.name + ("/" + spectrum) + "/" + method + "/" + std::to_string(rank);
  benchmark::RegisterBenchmark(name.c_str(),
                               [=](benchmark::State& state) { decompose(state, geometry, method, spectrum, rank); })
      ->Unit(benchmark::kSecond)
      ->UseRealTime()
      ->Iterations(1);
}

const int kRegistered = [] {
  for (const Geometry& geometry : kGeometries) {
    for (const char* spectrum : {"flat", "power", "steep"}) {
      for (const std::int64_t divisor : {8, 4, 2}) register_one(geometry, spectrum, "auto", geometry.columns / divisor);
      for (const char* method : {"gram", "randomized", "exact"})
        register_one(geometry, spectrum, method, geometry.columns / 4);
    }
  }
  return 0;
}();

}  // namespace
}  // namespace mla
