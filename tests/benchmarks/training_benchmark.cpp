// Tokens per second, share of the machine's float32 product rate and peak memory of training steps and calibration in
// float32, and with products in bfloat16. huggingface_training.py measures the same steps of PyTorch with transformers.
#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <ctime>
#include <fstream>
#include <functional>
#include <string>

#include "core/base/error.h"
#include "core/base/memory.h"
#include "core/base/registry.h"
#include "core/compress/pass.h"
#include "core/model/initialize.h"
#include "core/ops/matrix_product.h"
#include "core/train/loss.h"
#include "core/train/trainable.h"

namespace mla {
namespace {

struct Case {
  std::string model;  ///< "smollm_135m" or "small_3m"
  bool converted = false;
  bool checkpointed = false;
  std::int64_t rows = 1, length = 2048;
  Products products = Products::kFloat32;
  std::string name() const {
    return cat(model, converted ? "/joint" : "/source", checkpointed ? "/checkpointed" : "",
               products == Products::kBFloat16 ? "/bfloat16/" : "/", rows, "x", length);
  }
};

ModelSpec spec_of(const std::string& model) {
  const bool large = model == "smollm_135m";
  UniformModel uniform;
  uniform.model.family = "llama";
  uniform.model.norm_epsilon = 1e-5;
  uniform.model.tied_embeddings = true;
  uniform.model.vocabulary = large ? 49152 : 4096;
  uniform.model.hidden = large ? 576 : 192;
  uniform.heads.heads = large ? 9 : 6;
  uniform.heads.kv_heads = large ? 3 : 6;
  uniform.heads.head_dim = uniform.model.rope_dim = large ? 64 : 32;
  uniform.feed_forward.width = large ? 1536 : 512;
  uniform.layers = large ? 30 : 6;
  return uniform.spec();
}

/// A quarter of the pairs rotated, a latent of a quarter of the keys' and values' width: 37.5 % of the cache.
Decoder make_decoder(const Case& given) {
  Decoder decoder = initialize_decoder(spec_of(given.model), 1);
  if (given.converted) {
    const std::int64_t head_dim = decoder.spec().rope_dim;
    const Json config = {{"name", "mha2mla"},
                         {"rope", {{"name", "uniform"}, {"pairs", head_dim / 8}}},
                         {"low_rank", {{"name", "joint_svd"}, {"d_kv", head_dim / 2}}}};
    Registry<Pass>::instance().make(config, "compress[0]")->apply(decoder, {});
  }
  decoder.checkpoint_activations = given.checkpointed;
  decoder.products = given.products;
  return decoder;
}

Batch random_batch(const Case& given, std::int64_t vocabulary) {
  const at::Tensor ids =
      at::randint(vocabulary, {given.rows, given.length + 1}, at::detail::createCPUGenerator(3), at::kLong);
  Batch batch;
  batch.ids = ids.narrow(1, 0, given.length).contiguous();
  batch.targets = ids.narrow(1, 1, given.length).contiguous();
  batch.scored = given.rows * given.length;
  return batch;
}

double seconds(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// Floating-point operations a second of a large float32 product, the best of several.
double product_rate() {
  const at::Tensor a = at::rand({2048, 2048}), b = at::rand({2048, 2048});
  double best = 1e9;
  for (int i = 0; i < 7; ++i) best = std::min(best, seconds([&] { matrix_product(a, b); }));
  return 2 * 2048.0 * 2048.0 * 2048.0 / best;
}

/// Operations of the matrix products of one token's forward pass: two for each weight but the table of embeddings,
/// which serves as output matrix, and causal attention, which sees half the sequence.
double forward_operations(const Decoder& decoder, std::int64_t length) {
  const HeadFields heads = *decoder.spec().attention(0).heads();
  return 2 * static_cast<double>(decoder.parameter_count()) +
         2 * static_cast<double>(decoder.spec().layer_count() * heads.heads * heads.head_dim * length);
}

/// The process's largest memory since the last call with `reset`, in bytes.
double peak_memory(bool reset) {
  if (reset) std::ofstream("/proc/self/clear_refs") << "5";
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    double kibibytes = 0;
    if (word == "VmHWM:" && status >> kibibytes) return kibibytes * 1024;
  }
  return 0;
}

/// Runs `step` until the benchmark ends; returns the processor seconds, of all threads, of the fastest.
double run(benchmark::State& state, const std::function<void()>& step) {
  double best = 1e9;
  for (auto iteration : state) {
    const std::clock_t start = std::clock();
    step();
    best = std::min(best, static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC);
  }
  return best;
}

void report(benchmark::State& state, double tokens, double operations_per_token, double rate) {
  state.counters["tokens/s"] = benchmark::Counter(tokens, benchmark::Counter::kIsIterationInvariantRate);
  state.counters["of_product_rate"] =
      benchmark::Counter(tokens * operations_per_token / rate, benchmark::Counter::kIsIterationInvariantRate);
  state.counters["product_rate"] = rate;
  state.counters["peak_GB"] = peak_memory(false) / 1e9;
}

void training_step(benchmark::State& state, const Case& given) {
  Decoder decoder = make_decoder(given);
  const double rate = product_rate();
  const Batch batch = random_batch(given, decoder.spec().vocabulary);
  TrainableParameters parameters(decoder, "all", "benchmark");
  AdamW optimizer(parameters.named(), {});
  const auto step = [&] {
    parameters.zero_gradients();
    benchmark::DoNotOptimize(accumulate_gradients(decoder, batch, 1 / static_cast<double>(batch.scored)));
    parameters.clip_gradients(1);
    optimizer.step(1e-4);
  };
  peak_memory(true);
  step();
  const double processor = run(state, step);
  state.counters["least_processor_s"] = processor;
  report(state, static_cast<double>(batch.scored), 3 * forward_operations(decoder, given.length), rate);
}

void calibration(benchmark::State& state, const Case& given) {
  const Decoder decoder = make_decoder(given);
  const double rate = product_rate();
  const at::Tensor ids = random_batch(given, decoder.spec().vocabulary).ids.to(at::kInt);
  const std::int32_t* first = ids.const_data_ptr<std::int32_t>();
  std::vector<std::vector<std::int32_t>> rows;
  for (std::int64_t i = 0; i < given.rows; ++i)
    rows.emplace_back(first + i * given.length, first + (i + 1) * given.length);
  peak_memory(true);
  calibrate(decoder, rows, {kQueryPairNorms, kKeyPairNorms}, {}, {});
  state.counters["least_processor_s"] = run(state, [&] {
    benchmark::DoNotOptimize(calibrate(decoder, rows, {kQueryPairNorms, kKeyPairNorms}, {}, {}));
  });
  const double logits = 2 * static_cast<double>(decoder.embedding.parameters());  // which calibration does not need
  report(state, static_cast<double>(ids.numel()), forward_operations(decoder, given.length) - logits, rate);
}

void register_case(const std::string& name, std::int64_t iterations,
                   const std::function<void(benchmark::State&)>& run) {
  benchmark::RegisterBenchmark(name.c_str(), run)
      ->Unit(benchmark::kSecond)
      ->MeasureProcessCPUTime()
      ->UseRealTime()
      ->Iterations(iterations);
}

const int kRegistered = [] {
  keep_freed_memory();  // as the program does
  for (const std::string model : {"smollm_135m", "small_3m"}) {
    const std::int64_t iterations = model == "small_3m" ? 20 : 2;
    for (const Products products : {Products::kFloat32, Products::kBFloat16}) {
      for (const bool converted : {false, true}) {
        for (const bool checkpointed : {false, true}) {
          for (const auto& [rows, length] : {std::pair<int, int>{4, 512}, {1, 2048}}) {
            const Case given{model, converted, checkpointed, rows, length, products};
            register_case("train/" + given.name(), iterations,
                          [=](benchmark::State& state) { training_step(state, given); });
          }
        }
      }
      const Case given{model, false, false, 2, 2048, products};
      register_case("calibrate/" + given.name(), iterations,
                    [=](benchmark::State& state) { calibration(state, given); });
    }
  }
  return 0;
}();

}  // namespace
}  // namespace mla
