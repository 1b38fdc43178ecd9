// Decoding with one attention layer of Llama2-7B's geometry, batch 1: absorbed attention over a latent cache against
// LibTorch's scaled_dot_product_attention over the full cache, in one run. "share" is of the roofline: bytes against
// the measured reading rate, operations against the measured product rate, whichever takes longer.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <string>

#include "core/base/error.h"
#include "core/base/memory.h"
#include "core/ops/decode_attention.h"
#include "core/ops/matrix_product.h"
#include "core/ops/thin_linear.h"

namespace mla {
namespace {

constexpr std::int64_t kHeads = 32, kHeadDim = 128, kRope = 16;

template <class Work>
double fastest(const Work& work) {
  double best = 1e9;
  for (int i = 0; i < 5; ++i) {
    const auto start = std::chrono::steady_clock::now();
    work();
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  return best;
}

struct Rates {
  double bytes, operations;
};
const Rates& rates() {
  static const Rates measured = [] {
    const at::Tensor weight = at::ones({16384, 4096}), x = at::ones({1, 4096}), square = at::ones({1536, 1536});
    return Rates{static_cast<double>(weight.nbytes()) / fastest([&] { thin_linear(x, weight); }),
                 2.0 * 1536 * 1536 * 1536 / fastest([&] { matrix_product(square, square); })};
  }();
  return measured;
}

void tell(benchmark::State& state, double bytes, double operations) {
  const double limit = std::max(bytes / rates().bytes, operations / rates().operations);
  state.SetLabel(bytes / rates().bytes > operations / rates().operations ? "memory" : "compute");
  state.counters["share"] =
      benchmark::Counter(limit * static_cast<double>(state.iterations()), benchmark::Counter::kIsRate);
  state.counters["GB/s"] = rates().bytes / 1e9;
  state.counters["GFLOP/s"] = rates().operations / 1e9;
}

void full_cache(benchmark::State& state, std::int64_t context) {
  const at::NoGradGuard no_grad;
  const at::Tensor q = at::randn({1, kHeads, 1, kHeadDim}), k = at::randn({1, kHeads, context, kHeadDim}),
                   v = at::randn_like(k);
  for (auto _ : state) benchmark::DoNotOptimize(at::scaled_dot_product_attention(q, k, v));
  const double elements = static_cast<double>(2 * kHeads * kHeadDim * context);
  tell(state, 4 * elements, 2 * elements);
}

/// `bits` 0: float32. `whole`: with W_uk into the query and W_uv into the output.
void absorbed(benchmark::State& state, std::int64_t context, std::int64_t rank, std::int64_t rope_heads,
              std::int64_t rope, int bits, bool whole) {
  const at::NoGradGuard no_grad;
  const std::int64_t content = kHeadDim - rope;
  const at::Tensor query = at::randn({1, kHeads, content}), query_rope = at::randn({1, kHeads, rope}),
                   up = at::randn({kHeads * content, rank}), value_up = at::randn({kHeads * kHeadDim, rank}),
                   rope_keys = at::randn({rope_heads, context, rope}), latent = at::randn({1, context, rank});
  const std::int64_t row = rank * bits / 8, group = 64;
  const at::Tensor codes = at::randint(256, {1, context, std::max<std::int64_t>(row, 1)}, at::kByte),
                   scale = at::rand({1, context, rank / group}), zero = at::randn({1, context, rank / group});
  DecodeSpan span{context, latent.const_data_ptr(), latent.stride(0), latent.stride(1), {}};
  if (bits > 0)
    span.packed = {bits,
                   codes.const_data_ptr<std::uint8_t>(),
                   row,
                   context * row,
                   scale.const_data_ptr(),
                   zero.const_data_ptr(),
                   false,
                   scale.stride(0),
                   group,
                   false,
                   PackedSpan::kScaledPlusZero};
  DecodeProblem problem;
  problem.streams = {
      {rope_heads, rope, {{{context, rope_keys.const_data_ptr(), rope_keys.stride(0), rope_keys.stride(1), {}}}}},
      {1, rank, {{span}}}};
  problem.keys = {{0, rope_heads, 0, rope}, {1, 1, 0, rank}};
  problem.values = {1, 1, 0, rank};
  problem.scale = 0.05;
  problem.queries = {query_rope, at::randn({1, kHeads, rank}) * 0.1};
  for (auto _ : state) {
    if (whole) problem.queries[1] = head_sums(query, up, kHeads);
    at::Tensor out = decode_attention(problem);
    if (whole) out = head_products(out, value_up, kHeads);
    benchmark::DoNotOptimize(out);
  }
  const double tokens = static_cast<double>(context), width = static_cast<double>(rank);
  double bytes = tokens * (4 * static_cast<double>(rope_heads * rope) +
                           (bits > 0 ? static_cast<double>(row) + 8 * width / static_cast<double>(group) : 4 * width));
  double operations = 2 * kHeads * tokens * (static_cast<double>(rope) + 2 * width);
  if (whole) {
    bytes += 4.0 * kHeads * static_cast<double>(content + kHeadDim) * width;
    operations += 2.0 * kHeads * static_cast<double>(content + kHeadDim) * width;
  }
  tell(state, bytes, operations);
}

const int kRegistered = [] {
  keep_freed_memory();  // as the program does
  const auto add = [](const std::string& name, auto work) {
    benchmark::RegisterBenchmark(name.c_str(), work)->Unit(benchmark::kMillisecond)->UseRealTime()->MinTime(0.2);
  };
  for (const std::int64_t context : {1024, 4096, 16384}) {
    add(cat("sdpa/full/", context), [=](benchmark::State& state) { full_cache(state, context); });
    for (const std::int64_t d_kv : {16, 32, 64}) {
      for (const bool whole : {false, true}) {
        add(cat(whole ? "absorbed+up/d_kv=" : "absorbed/d_kv=", d_kv, "/", context),
            [=](benchmark::State& state) { absorbed(state, context, kHeads * d_kv, kHeads, kRope, 0, whole); });
      }
      for (const int bits : {8, 4, 2}) {
        add(cat("absorbed/", bits, "bit/d_kv=", d_kv, "/", context),
            [=](benchmark::State& state) { absorbed(state, context, kHeads * d_kv, kHeads, kRope, bits, false); });
      }
    }
    add(cat("absorbed/512+64/", context),
        [=](benchmark::State& state) { absorbed(state, context, 512, 1, 64, 0, false); });
  }
  return 0;
}();

}  // namespace
}  // namespace mla
