// What the config file of `mlaforge bench` says, as one typed value.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "core/base/json.h"
#include "core/model/checkpoint.h"
#include "experiments/bench/bench.h"

namespace mla {

/// One model of a benchmark: the source model, or what passes make of it.
struct BenchModel {
  std::string name;
  Json compress = Json::array();

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("name", self.name, "for tables and records");
    visit("compress", self.compress, "passes in order, as in an experiment; empty: the source model");
  }
};

/// All combinations of these.
struct BenchSweep {
  std::vector<std::int64_t> batch = {1}, context = {128}, new_tokens = {32};
  std::vector<std::string> path = {"auto"};
  std::vector<CacheConfig> cache = {{}};

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("batch", self.batch, "sequences decoded together");
    visit("context", self.context, "tokens of each prompt");
    visit("new_tokens", self.new_tokens, "tokens generated, the first of which comes from the prompt");
    visit("path", self.path, "auto | absorbed | expanded");
    visit("cache", self.cache, "how the cache is stored");
  }
};

struct BenchConfig {
  std::string name, description, model, calibration;
  Json geometry = Json::object();
  std::string dtype = "float32", device = "cpu", products = "float32";
  HeldWeights weights = HeldWeights::kDense;
  std::vector<BenchModel> models = {{"source", Json::array()}};
  std::vector<BenchSweep> sweeps = {{}};
  std::int64_t calibration_rows = 128, calibration_length = 256;
  std::int64_t warm_up = 1, repeats = 3, prefill_chunk = 0;
  bool prefill = true;
  std::string results = "results";
  std::uint64_t seed = 0;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("name", self.name, "folder of the records under `results`; empty: the config file's name");
    visit("description", self.description, "for people");
    visit("model", self.model, "a model folder, a GGUF or a llama2.c .bin file; empty: random weights of `geometry`");
    visit("calibration", self.calibration,
          "text, or token ids, to calibrate passes and the caches' codecs on, where one needs that");
    visit("calibration_rows", self.calibration_rows, "rows of it that passes are given, at most");
    visit("calibration_length", self.calibration_length, "tokens of such a row, at most");
    visit("geometry", self.geometry, "a Hugging Face config.json object");
    visit("dtype", self.dtype, "number type of arithmetic and cache");
    visit("device", self.device, "device that holds the model and computes: cpu");
    visit("weights", self.weights, "how a GGUF file's matrices are held: dense | packed");
    visit("products", self.products, "what large float32 products multiply: float32 | bfloat16 | auto");
    visit("models", self.models, "what is measured of it: [{\"name\": …, \"compress\": […]}]");
    visit("sweeps", self.sweeps, "lists of batch, context, new_tokens, path and cache; each combination is a cell");
    visit("warm_up", self.warm_up, "runs of each cell that do not count");
    visit("repeats", self.repeats, "runs of each cell that do");
    visit("prefill_chunk", self.prefill_chunk, "tokens of a prompt that are fed at a time; 0: all at once");
    visit("prefill", self.prefill, "feed a prompt; false: fill the cache with random numbers, which takes no time");
    visit("results", self.results, "folder of all records");
    visit("seed", self.seed, "of random weights and prompts");
  }

  Placement placement() const;

  /// Throws ConfigError for what is missing and for values that make no sense, whatever the model.
  void validate() const;
};

/// One cell of the sweeps, with a name that is a file's.
struct NamedBenchCell {
  std::string name;
  BenchCell cell;
};

/// The cells of one model, in order.
std::vector<NamedBenchCell> bench_cells(const BenchConfig& config);

/// The config file with its bases, `assignments` and environment variables. Not validated: the command line may add to
/// it.
BenchConfig read_bench_config(const std::filesystem::path& file, const std::vector<std::string>& assignments);

}  // namespace mla
