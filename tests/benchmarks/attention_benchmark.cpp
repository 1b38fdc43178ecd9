// Causal attention alone in float32, forward and with gradients, next to ATen's scaled_dot_product_attention:
// operations a second of the products that a causal mask leaves (two forward, five more backward), and of a large
// product before.
#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/grad_mode.h>
#include <benchmark/benchmark.h>

#include <algorithm>
#include <ctime>
#include <functional>
#include <string>
#include <vector>

#include "core/base/memory.h"
#include "core/ops/causal_attention.h"

namespace mla {
namespace {

struct Shape {
  std::int64_t batch, heads, kv_heads, length, width, value_width;
  std::string name() const {
    std::string text = std::to_string(batch);
    for (const std::int64_t size : {heads, kv_heads, length, width, value_width}) {
      text.append("x").append(std::to_string(size));
    }
    return text;
  }
  /// A product of `width` with every visible key.
  double product(std::int64_t columns) const {
    return static_cast<double>(batch * heads * length * (length + 1) * columns);
  }
};

/// Processor seconds, of all threads, of the fastest of some runs.
double least_seconds(int runs, const std::function<void()>& work) {
  double best = 1e9;
  for (int i = 0; i < runs; ++i) {
    const std::clock_t start = std::clock();
    work();
    best = std::min(best, static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC);
  }
  return best;
}

double product_rate() {
  const at::Tensor a = at::rand({1024, 1024}), b = at::rand({1024, 1024});
  at::Tensor c = at::mm(a, b);
  return 2 * 1024.0 * 1024.0 * 1024.0 / least_seconds(12, [&] { at::mm_out(c, a, b); });
}

/// Heads as a projection leaves them: [batch, length, heads, width] in memory.
at::Tensor random_heads(const Shape& shape, std::int64_t heads, std::int64_t width, std::uint64_t seed) {
  return at::randn({shape.batch, shape.length, heads, width}, at::detail::createCPUGenerator(seed), at::kFloat)
      .transpose(1, 2)
      .detach();
}

void attention(benchmark::State& state, const Shape& shape, bool gradients, bool aten) {
  const at::AutoGradMode mode(gradients);
  const at::Tensor q = random_heads(shape, shape.heads, shape.width, 1).requires_grad_(gradients),
                   k = random_heads(shape, shape.kv_heads, shape.width, 2).requires_grad_(gradients),
                   v = random_heads(shape, shape.kv_heads, shape.value_width, 3).requires_grad_(gradients),
                   weight = random_heads(shape, shape.heads, shape.value_width, 4);
  const double scale = 0.125;
  const auto forward = [&] {
    return aten ? at::scaled_dot_product_attention(q, k, v, {}, 0.0, true, scale, shape.heads != shape.kv_heads)
                : causal_self_attention(q, k, v, scale, {});
  };
  double best = 1e9;
  for (auto iteration : state) {
    best = std::min(best, least_seconds(1, [&] {
                      const at::Tensor out = forward();
                      if (gradients) out.backward(weight);
                    }));
  }
  const double once = shape.product(shape.width) + shape.product(shape.value_width);
  const double again = 2 * shape.product(shape.value_width) + 3 * shape.product(shape.width);
  state.counters["least_processor_ms"] = best * 1e3;
  state.counters["GFLOP/s"] = (gradients ? once + again : once) / best / 1e9;
  state.counters["product_GFLOP/s"] = product_rate() / 1e9;
}

const int kRegistered = [] {
  keep_freed_memory();  // as the program does
  const std::vector<Shape> shapes{{1, 6, 6, 2048, 32, 32}, {1, 9, 3, 2048, 64, 64}, {4, 6, 6, 512, 32, 32},
                                  {4, 9, 3, 512, 64, 64},  {32, 6, 6, 128, 32, 32}, {1, 6, 6, 2048, 40, 24}};
  for (const Shape& shape : shapes) {
    for (const bool gradients : {false, true}) {
      for (const bool aten : {false, true}) {
        std::string name = gradients ? "backward/" : "forward/";
        name.append(shape.name()).append(aten ? "/aten" : "/here");
        benchmark::RegisterBenchmark(name.c_str(),
                                     [=](benchmark::State& state) { attention(state, shape, gradients, aten); })
            ->Unit(benchmark::kMillisecond)
            ->UseRealTime();
      }
    }
  }
  return 0;
}();

}  // namespace
}  // namespace mla
