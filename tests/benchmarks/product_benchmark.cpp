// Matrix products of SmolLM-135M's and a small model's layers: at::linear and at::mm (MKL) against ours, which take
// oneDNN where it is faster, and ours in bfloat16. ONEDNN_MAX_CPU_ISA=AVX2 shows what a processor without AVX-512 would
// do.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <benchmark/benchmark.h>

#include <string>

#include "core/ops/matrix_product.h"
#include "core/ops/products.h"

namespace mla {
namespace {

enum class Kind { kForward, kInputGradient, kWeightGradient };
enum class By { kOurs, kOursInBFloat16, kAten };

void product(benchmark::State& state, Kind kind, By by) {
  const ProductsScope scope(by == By::kOursInBFloat16 ? Products::kBFloat16 : Products::kFloat32);
  const bool ours = by != By::kAten;
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
BENCHMARK_CAPTURE(product, forward / here, Kind::kForward, By::kOurs)->Apply(shapes);
BENCHMARK_CAPTURE(product, forward / bfloat16, Kind::kForward, By::kOursInBFloat16)->Apply(shapes);
BENCHMARK_CAPTURE(product, forward / aten, Kind::kForward, By::kAten)->Apply(shapes);
BENCHMARK_CAPTURE(product, input_gradient / here, Kind::kInputGradient, By::kOurs)->Apply(shapes);
BENCHMARK_CAPTURE(product, input_gradient / bfloat16, Kind::kInputGradient, By::kOursInBFloat16)->Apply(shapes);
BENCHMARK_CAPTURE(product, input_gradient / aten, Kind::kInputGradient, By::kAten)->Apply(shapes);
BENCHMARK_CAPTURE(product, weight_gradient / here, Kind::kWeightGradient, By::kOurs)->Apply(shapes);
BENCHMARK_CAPTURE(product, weight_gradient / bfloat16, Kind::kWeightGradient, By::kOursInBFloat16)->Apply(shapes);
BENCHMARK_CAPTURE(product, weight_gradient / aten, Kind::kWeightGradient, By::kAten)->Apply(shapes);

}  // namespace
}  // namespace mla
