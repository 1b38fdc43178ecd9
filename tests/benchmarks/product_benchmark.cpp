// Matrix products of SmolLM-135M's and a small model's layers: at::linear and at::mm (MKL) against ours, which take
// oneDNN where it is faster. ONEDNN_MAX_CPU_ISA=AVX2 shows what a processor without AVX-512 would do.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <benchmark/benchmark.h>

#include <string>

#include "core/ops/matrix_product.h"

namespace mla {
namespace {

enum class Kind { kForward, kInputGradient, kWeightGradient };

void product(benchmark::State& state, Kind kind, bool ours) {
  const at::NoGradGuard no_grad;
  const std::int64_t rows = state.range(0), in = state.range(1), out = state.range(2);
  const at::Tensor x = at::randn({rows, in}), dy = at::randn({rows, out}), weight = at::randn({out, in});
  for (auto _ : state) {
    switch (kind) {
      case Kind::kForward:
        benchmark::DoNotOptimize(ours ? dense_linear(x, weight) : at::linear(x, weight));
        break;
      case Kind::kInputGradient:
        benchmark::DoNotOptimize(ours ? matrix_product(dy, weight) : at::mm(dy, weight));
        break;
      case Kind::kWeightGradient:
        benchmark::DoNotOptimize(ours ? matrix_product(dy.t(), x) : at::mm(dy.t(), x));
        break;
    }
  }
  state.counters["FLOP/s"] =
      benchmark::Counter(2.0 * static_cast<double>(rows * in * out), benchmark::Counter::kIsIterationInvariantRate);
}

void shapes(benchmark::internal::Benchmark* benchmark) {
  benchmark->Args({128, 576, 1536})->Args({1024, 576, 1536})->Args({1024, 1536, 576})->Args({1024, 576, 192});
  benchmark->Args({2048, 192, 512})->Args({320, 576, 49152})->UseRealTime()->Unit(benchmark::kMillisecond);
}
BENCHMARK_CAPTURE(product, forward / here, Kind::kForward, true)->Apply(shapes);
BENCHMARK_CAPTURE(product, forward / aten, Kind::kForward, false)->Apply(shapes);
BENCHMARK_CAPTURE(product, input_gradient / here, Kind::kInputGradient, true)->Apply(shapes);
BENCHMARK_CAPTURE(product, input_gradient / aten, Kind::kInputGradient, false)->Apply(shapes);
BENCHMARK_CAPTURE(product, weight_gradient / here, Kind::kWeightGradient, true)->Apply(shapes);
BENCHMARK_CAPTURE(product, weight_gradient / aten, Kind::kWeightGradient, false)->Apply(shapes);

}  // namespace
}  // namespace mla
