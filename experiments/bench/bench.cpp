#include "experiments/bench/bench.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <functional>

#include "core/base/error.h"
#include "core/base/interrupt.h"
#include "core/base/statistics.h"
#include "core/evaluate/sound_cache.h"
#include "core/ops/matrix_product.h"
#include "core/ops/thin_linear.h"

namespace mla {
namespace {

using Clock = std::chrono::steady_clock;
double seconds_of(const std::function<void()>& work) {
  const auto start = Clock::now();
  work();
  return std::chrono::duration<double>(Clock::now() - start).count();
}

double fastest_of(int times, const std::function<void()>& work) {
  double fastest = seconds_of(work);
  for (int i = 1; i < times; ++i) fastest = std::min(fastest, seconds_of(work));
  return fastest;
}

/// Linux keeps a high-water mark of resident memory, which can be set back.
void forget_peak() { std::ofstream("/proc/self/clear_refs") << "5"; }
std::int64_t peak_bytes() {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    std::int64_t kilobytes = 0;
    if (word == "VmHWM:" && status >> kilobytes) return kilobytes * 1024;
  }
  return 0;
}

double quantile(std::vector<double> values, double share) {
  std::sort(values.begin(), values.end());
  const double place = share * static_cast<double>(values.size() - 1);
  const auto below = static_cast<std::size_t>(place);
  const double rest = place - static_cast<double>(below);
  return below + 1 < values.size() ? values[below] * (1 - rest) + values[below + 1] * rest : values[below];
}

/// Parameters that a step multiplies with: all but an embedding that is only looked up.
double multiplied_parameters(const Decoder& decoder) {
  return static_cast<double>(decoder.parameter_count() -
                             (decoder.output.defined() ? decoder.embedding.parameters() : 0));
}

/// Bytes of them, as they are held.
double multiplied_bytes(const Decoder& decoder) {
  return static_cast<double>(decoder.weight_bytes() - (decoder.output.defined() ? decoder.embedding.bytes() : 0));
}

void fill_with_noise(const Decoder& decoder, DecoderCache& cache, std::int64_t tokens, std::uint64_t seed) {
  auto generator = at::detail::createCPUGenerator(seed);
  cache.begin_step({});
  for (std::size_t i = 0; i < decoder.layers.size(); ++i) {
    LayerCache& layer = cache.layer(i);
    for (std::size_t s = 0; s < layer.streams().size(); ++s) {
      const StreamShape& shape = layer.streams()[s];
      // Made on the host: the same numbers on every device.
      layer.push(s, at::randn({cache.batch(), shape.heads, tokens, shape.width}, generator, decoder.compute_dtype)
                        .to(decoder.device()));
    }
  }
  cache.end_step(tokens);
}

/// The prompt through the model, some tokens at a time; returns the tokens that come next, [batch, 1].
at::Tensor prefill(const Decoder& decoder, const BenchCell& cell, const at::Tensor& ids, DecoderCache& cache) {
  const std::int64_t chunk = cell.prefill_chunk > 0 ? cell.prefill_chunk : ids.size(1);
  at::Tensor logits;
  for (std::int64_t begin = 0; begin < ids.size(1); begin += chunk) {
    check_interrupt();
    logits = decoder.forward_cached(ids.narrow(1, begin, std::min(chunk, ids.size(1) - begin)), cache, cell.path);
  }
  return logits.argmax(-1, true);
}

void count_cache(const DecoderCache& cache, BenchResult& result) {
  for (const std::int64_t length : cache.lengths()) result.cached_tokens += length;
  result.cache_bytes = cache.bytes();
  result.predicted_bytes = cache.predicted_bytes();
  result.allocated_bytes = cache.allocated_bytes();
  expects(result.cache_bytes == result.predicted_bytes,
          "the cache's buffers hold another number of bytes than predicted");
}

void count_weights(const Decoder& decoder, BenchResult& result) {
  result.weight_bytes = decoder.weight_bytes();
  result.predicted_weight_bytes = decoder.predicted_weight_bytes();
  expects(result.weight_bytes == result.predicted_weight_bytes,
          "the weights' buffers hold another number of bytes than predicted");
}

/// Roofline shares from the medians.
void compare(const Decoder& decoder, const BenchCell& cell, const MachineRates& machine, BenchResult& result) {
  const double batch = static_cast<double>(cell.batch), parameters = multiplied_parameters(decoder),
               mean_context = static_cast<double>(cell.context) + static_cast<double>(cell.new_tokens) / 2;
  double attention = 0, expanded = 0;
  for (const LayerSpec& layer : decoder.spec().layers) {
    attention += layer.attention->cached_operations();
    expanded += layer.attention->expanded_operations();
  }
  const double cache =
      static_cast<double>(result.cache_bytes) * mean_context * batch / static_cast<double>(result.cached_tokens);
  result.step_bytes = multiplied_bytes(decoder) + cache;
  result.step_operations = batch * (2 * parameters + attention * mean_context);
  const double seconds = result.token_ms.median() / 1000;
  result.bandwidth_share = result.step_bytes / machine.bytes_per_second / seconds;
  result.compute_share = result.step_operations / machine.operations_per_second / seconds;
  if (result.first_ms.values.empty()) return;
  // The output matrix serves only the last position; a prompt's tokens attend to half of it on average, expanded.
  const double output = static_cast<double>(decoder.embedding.parameters()),
               tokens = batch * static_cast<double>(cell.context);
  const double operations =
      tokens * (2 * (parameters - output) + expanded * static_cast<double>(cell.context) / 2) + 2 * batch * output;
  result.prefill_compute_share = operations / machine.operations_per_second / (result.first_ms.median() / 1000);
}

}  // namespace

double Samples::median() const { return values.empty() ? 0 : quantile(values, 0.5); }
double Samples::spread() const { return values.size() < 2 ? 0 : (quantile(values, 0.75) - quantile(values, 0.25)) / 2; }

std::optional<double> Samples::standard_error() const {
  if (runs.size() < 2 || values.empty()) return {};
  return grouped_quantile(values, runs, 0.5).standard_error;
}

void check_room(const Decoder& decoder, const BenchCell& cell) {
  const std::int64_t most = decoder.spec().max_positions;
  if (cell.context + cell.new_tokens > most) {
    throw ConfigError(cat("context: ", cell.context, " tokens and ", cell.new_tokens,
                          " new ones are more than the model's context of ", most));
  }
}

MachineRates measure_machine(const at::Device& device) {
  const at::NoGradGuard no_grad;
  constexpr std::int64_t kRows = 16384, kWidth = 4096, kSquare = 1536;
  const auto ones = [&](std::int64_t rows, std::int64_t columns) { return at::ones({rows, columns}, device); };
  const at::Tensor weight = ones(kRows, kWidth), x = ones(1, kWidth), square = ones(kSquare, kSquare);
  const double reading = fastest_of(5, [&] { linear_rows(x, weight); });
  const double multiplying = fastest_of(5, [&] { matrix_product(square, square); });
  return {static_cast<double>(weight.nbytes()) / reading, 2.0 * kSquare * kSquare * kSquare / multiplying};
}

BenchResult measure_decoding(const Decoder& decoder, const BenchCell& cell, const CacheFormat& format) {
  const at::NoGradGuard no_grad;
  check_room(decoder, cell);
  auto generator = at::detail::createCPUGenerator(cell.seed);
  const at::Tensor ids =
      at::randint(decoder.spec().vocabulary, {cell.batch, cell.context}, generator, at::kLong).to(decoder.device());
  BenchResult result;
  forget_peak();
  for (std::int64_t run = 0; run < cell.warm_up + cell.repeats; ++run) {
    const bool counts = run >= cell.warm_up;
    DecoderCache cache = decoder.make_cache(cell.batch, format);
    cache.reserve(cell.context + cell.new_tokens - 1);
    at::Tensor fed = ids.narrow(1, 0, 1);
    if (cell.prefill) {
      const double seconds = seconds_of([&] { fed = prefill(decoder, cell, ids, cache); });
      if (counts) {
        result.first_ms.values.push_back(1000 * seconds);
        result.first_ms.runs.push_back(1);
      }
    } else {
      fill_with_noise(decoder, cache, cell.context, cell.seed);
    }
    for (std::int64_t step = 1; step < cell.new_tokens; ++step) {
      check_interrupt();
      const double seconds = seconds_of([&] { fed = decoder.forward_cached(fed, cache, cell.path).argmax(-1, true); });
      if (counts) result.token_ms.values.push_back(1000 * seconds);
    }
    if (counts) result.token_ms.runs.push_back(cell.new_tokens - 1);
    if (run + 1 == cell.warm_up + cell.repeats) {
      expect_sound(decoder, cache);
      count_cache(cache, result);
    }
  }
  count_weights(decoder, result);
  result.peak_bytes = peak_bytes();
  result.tokens_per_second = 1000 * static_cast<double>(cell.batch) / result.token_ms.median();
  return result;
}

BenchResult run_bench(const Decoder& decoder, const BenchCell& cell, const MachineRates& machine,
                      const CacheSamples& samples) {
  BenchResult result = measure_decoding(decoder, cell, cache_format(cell.cache, "cache", samples));
  compare(decoder, cell, machine, result);
  return result;
}

}  // namespace mla
