#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>

#include "core/base/fields.h"
#include "core/base/hash.h"
#include "core/base/interrupt.h"
#include "core/base/log.h"
#include "core/store/record.h"
#include "experiments/bench/bench_config.h"
#include "experiments/cache/cache_check.h"
#include "experiments/cli/comma_list.h"
#include "experiments/cli/command.h"
#include "experiments/cli/table.h"
#include "experiments/commands/bench_models.h"
#include "experiments/commands/run_provenance.h"
#include "experiments/data/evaluation_text.h"
#include "experiments/data/token_data.h"
#include "experiments/model/model_files.h"
#include "experiments/model/placement_options.h"

namespace mla {
namespace {

constexpr double kGiga = 1e9;

class Bench final : public Command {
 public:
  void declare(OptionList& options) override {
    options.argument("config", config_, "CONFIG", "JSON file: model or geometry, models, sweeps, warm_up, repeats");
    options.add("set", set_, "KEY=VALUE", "change a value of the config, for example repeats=5; may be repeated");
    options.add("model", model_, "MODEL", "a model folder, a GGUF or a llama2.c .bin file, instead of the config's");
    options.add("batch", batch_, "N,…", "batch sizes, instead of the config's");
    options.add("context", context_, "N,…", "prompt lengths, likewise");
    options.add("new-tokens", new_tokens_, "N,…", "generated tokens, likewise");
    options.add("path", paths_, "PATH", "auto | absorbed | expanded, likewise; repeatable");
    options.add(
        "cache", caches_, "CACHE",
        "plain, a codec and its bits (hqq4, kivi2), or the \"cache\" of a config as JSON or a .json file, likewise; "
        "repeatable");
    options.add("calibration", calibration_, "FILE", "text to calibrate passes and the caches' codecs on, likewise");
    options.add_count("calibration-rows", calibration_rows_, 1, "rows of it that passes are given at most, likewise");
    options.add_count("calibration-length", calibration_length_, 1, "tokens of such a row at most, likewise");
    declare_device(options, device_, "cpu, or the config's");
    declare_weights(options, weights_, "dense, or the config's");
    declare_products(options, products_, "float32, or the config's");
    options.add("repeats", repeats_, "N", "runs of each cell that count");
    options.add("warm-up", warm_up_, "N", "runs of each cell that do not");
  }

  ExitCode run(Console& console) override {
    install_interrupt_handler();
    const BenchConfig config = resolve();
    const std::vector<NamedBenchCell> measured = bench_cells(config);
    BenchModels models(config);
    check_caches(config, measured, models.specs());
    models.read_calibration(console.workers());
    const TokenIds calibration = codec_rows(config, measured, models.source(), console);
    if (!config.model.empty()) {
      for (const auto& [role, file] : files_of_model(config.model, "model")) data_hashes_[role] = hash_data_file(file);
    }
    if (!config.calibration.empty()) data_hashes_["calibration"] = hash_data_file(config.calibration);
    const MachineRates machine = measure_machine(config.placement().device);
    log_info(cat(at::get_num_threads(), " threads: reading ", rounded(machine.bytes_per_second / kGiga, 3),
                 " GB/s, products ", rounded(machine.operations_per_second / kGiga, 4), " GFLOP/s"));
    Table table({"model", "cell", "first ms", "ms/token", "+-", "tokens/s", "peak MB", "cache bytes", "weight bytes",
                 "roofline"});
    Json cells = Json::array();
    for (std::size_t i = 0; i < models.size(); ++i) {
      const BenchModel& model = config.models[i];
      Decoder decoder = models.make(i);
      for (const NamedBenchCell& named : measured) check_room(decoder, named.cell);
      CacheSamples samples;
      if (!calibration.empty()) samples = sample_cache(decoder, calibration, {});
      decoder.prepare_decode();
      for (const NamedBenchCell& named : measured) {
        const BenchResult result = run_bench(decoder, named.cell, machine, samples);
        write(config, model, named, result, machine, console);
        cells.push_back(to_json(model, named, result));
        table.add(row(model, named, result));
        log_info(cat(model.name, " ", named.name, ": ", rounded(result.token_ms.median(), 4), " ms/token"));
      }
    }
    table.print(console.text());
    console.text() << "+-: standard error of the median, over runs\nroofline: share of the measured reading rate "
                      "(memory) or product rate (compute), whichever is larger\n";
    console.report({{"bytes_per_second", machine.bytes_per_second},
                    {"operations_per_second", machine.operations_per_second},
                    {"threads", at::get_num_threads()},
                    {"cells", cells}});
    return ExitCode::kDone;
  }

 private:
  BenchConfig resolve() const {
    BenchConfig config;
    config.name = "bench";
    if (config_) config = read_bench_config(*config_, set_);
    if (!config_ && !set_.empty()) throw ConfigError("--set: changes a config, and none is given");
    if (model_) {
      config.model = model_->string();
      config.geometry = Json::object();
      if (!config_) config.models.front().name = std::filesystem::weakly_canonical(*model_).filename().string();
    }
    for (BenchSweep& sweep : config.sweeps) {
      if (batch_) sweep.batch = whole_numbers(*batch_, "--batch", 1);
      if (context_) sweep.context = whole_numbers(*context_, "--context", 1);
      if (new_tokens_) sweep.new_tokens = whole_numbers(*new_tokens_, "--new-tokens", 1);
      if (!paths_.empty()) sweep.path = paths_;
      if (!caches_.empty()) sweep.cache.clear();
      for (const std::string& cache : caches_) sweep.cache.push_back(parse_cache_config(cache, "--cache"));
    }
    if (calibration_) config.calibration = calibration_->string();
    if (calibration_rows_) config.calibration_rows = *calibration_rows_;
    if (calibration_length_) config.calibration_length = *calibration_length_;
    if (device_) {
      parse_device(*device_, "--device");
      config.device = *device_;
    }
    config.products = settled_products(products_.value_or(config.products), products_ ? "--products" : "products");
    if (weights_) config.weights = parse_held_weights(*weights_, "--weights");
    if (repeats_) config.repeats = *repeats_;
    if (warm_up_) config.warm_up = *warm_up_;
    config.validate();
    return config;
  }

  /// What no model could keep is found out before one is read.
  static void check_caches(const BenchConfig& config, const std::vector<NamedBenchCell>& cells,
                           const std::vector<ModelSpec>& models) {
    for (const NamedBenchCell& named : cells) {
      const BenchCell& cell = named.cell;
      check_calibration(cell.cache, !config.calibration.empty(), "cache",
                        "name it with --calibration FILE, or as \"calibration\" of the config");
      const std::int64_t first =
          cell.prefill && cell.prefill_chunk > 0 ? std::min(cell.prefill_chunk, cell.context) : cell.context;
      for (const ModelSpec& model : models) {
        check_cache(cell.cache, model, {first, cell.context + cell.new_tokens - 1}, "cache");
      }
    }
  }

  /// Rows that codecs are calibrated on; none where no codec needs them.
  static TokenIds codec_rows(const BenchConfig& config, const std::vector<NamedBenchCell>& cells, const ModelSpec& spec,
                             const Console& console) {
    const bool needed = std::any_of(cells.begin(), cells.end(),
                                    [](const NamedBenchCell& named) { return needs_calibration(named.cell.cache); });
    if (!needed) return {};
    EvaluationText text;
    text.file = config.calibration;
    if (config.model.empty() && !holds_token_ids(text.file)) {
      throw ConfigError(
          "calibration: a model of random weights has no tokenizer; give {\"ids\": [[…]]} in a .json file");
    }
    return read_evaluation_rows(text, config.model, std::nullopt, spec, console.workers()).rows;
  }

  static Json or_null(const std::optional<double>& value) { return value ? Json(*value) : Json(); }

  static std::string roofline(const BenchResult& result) {
    const bool memory = result.bandwidth_share >= result.compute_share;
    return cat(rounded(100 * std::max(result.bandwidth_share, result.compute_share), 3),
               memory ? " % memory" : " % compute");
  }

  static std::vector<std::string> row(const BenchModel& model, const NamedBenchCell& named, const BenchResult& result) {
    return {model.name,
            named.name,
            result.first_ms.values.empty() ? "-" : rounded(result.first_ms.median(), 4),
            rounded(result.token_ms.median(), 4),
            result.token_ms.standard_error() ? rounded(*result.token_ms.standard_error(), 2) : "-",
            rounded(result.tokens_per_second, 4),
            grouped(result.peak_bytes / 1000000),
            grouped(result.cache_bytes),
            grouped(result.weight_bytes),
            roofline(result)};
  }

  static Json to_json(const BenchModel& model, const NamedBenchCell& named, const BenchResult& result) {
    return {{"model", model.name},
            {"cell", named.name},
            {"batch", named.cell.batch},
            {"context", named.cell.context},
            {"new_tokens", named.cell.new_tokens},
            {"path", write_fields(named.cell.path)},
            {"cache", write_fields(named.cell.cache)},
            {"first_ms", result.first_ms.median()},
            {"first_ms_spread", result.first_ms.spread()},
            {"first_ms_standard_error", or_null(result.first_ms.standard_error())},
            {"token_ms", result.token_ms.median()},
            {"token_ms_spread", result.token_ms.spread()},
            {"token_ms_standard_error", or_null(result.token_ms.standard_error())},
            {"tokens_per_second", result.tokens_per_second},
            {"peak_bytes", result.peak_bytes},
            {"cached_tokens", result.cached_tokens},
            {"cache_bytes", result.cache_bytes},
            {"predicted_cache_bytes", result.predicted_bytes},
            {"allocated_cache_bytes", result.allocated_bytes},
            {"weight_bytes", result.weight_bytes},
            {"predicted_weight_bytes", result.predicted_weight_bytes},
            {"step_bytes", result.step_bytes},
            {"step_operations", result.step_operations},
            {"bandwidth_share", result.bandwidth_share},
            {"compute_share", result.compute_share},
            {"prefill_compute_share", result.prefill_compute_share}};
  }

  void write(const BenchConfig& config, const BenchModel& model, const NamedBenchCell& named, const BenchResult& result,
             const MachineRates& machine, const Console& console) const {
    RunRecord record;
    record.head.experiment = config.name;
    record.head.cell = cat("model=", model.name, ",", named.name);
    record.head.created = utc_now();
    record.config = write_fields(config);
    record.overrides = {{"model", model.name},
                        {"batch", named.cell.batch},
                        {"context", named.cell.context},
                        {"new_tokens", named.cell.new_tokens},
                        {"path", write_fields(named.cell.path)},
                        {"cache", write_fields(named.cell.cache)}};
    // Each measurement is one of its own: of two files with this hash one is a copy.
    record.head.content_hash = hash_json({{"config", record.config},
                                          {"cell", record.head.cell},
                                          {"data_hashes", data_hashes_},
                                          {"created", record.head.created}});
    record.provenance = provenance_of(console);
    record.provenance.seed = config.seed;
    record.provenance.threads = at::get_num_threads();
    record.provenance.device = config.device;
    record.provenance.data_hashes = data_hashes_;
    const std::string stage = model.compress.empty() ? "source" : "converted";
    const auto score = [&](const char* metric, double value, const char* unit, bool higher, const Samples& samples) {
      const auto n = std::max<std::int64_t>(1, std::ssize(samples.values));
      ScoreRecord record_of{stage, "bench", metric, value, samples.standard_error(), n, higher, unit, samples.values};
      record_of.group_sizes = samples.runs;
      if (!samples.runs.empty()) record_of.group_unit = "run";
      if (n > 1) record_of.spread = samples.spread();
      record.evaluation.push_back(std::move(record_of));
    };
    if (!result.first_ms.values.empty())
      score("time_to_first_token", result.first_ms.median(), "ms", false, result.first_ms);
    score("time_per_token", result.token_ms.median(), "ms", false, result.token_ms);
    score("tokens_per_second", result.tokens_per_second, "tokens/s", true, {});
    score("peak_memory", static_cast<double>(result.peak_bytes), "bytes", false, {});
    score("allocated_cache", static_cast<double>(result.allocated_bytes), "bytes", false, {});
    score("bandwidth_share", result.bandwidth_share, "of the measured reading rate", true, {});
    score("compute_share", result.compute_share, "of the measured product rate", true, {});
    if (result.prefill_compute_share > 0) {
      score("prefill_compute_share", result.prefill_compute_share, "of the measured product rate", true, {});
    }
    score("machine_bytes_per_second", machine.bytes_per_second, "bytes/s", true, {});
    score("machine_operations_per_second", machine.operations_per_second, "operations/s", true, {});
    record.cache.push_back({stage, result.cached_tokens, result.predicted_bytes, result.cache_bytes,
                            result.predicted_weight_bytes, result.weight_bytes});
    write_record(std::filesystem::path(config.results) / config.name / (record.head.cell + ".h5"), record);
  }

  Json data_hashes_ = Json::object();
  std::optional<std::filesystem::path> config_, model_, calibration_;
  std::vector<std::string> set_, paths_, caches_;
  std::optional<std::string> batch_, context_, new_tokens_, device_, weights_, products_;
  std::optional<std::int64_t> repeats_, warm_up_, calibration_rows_, calibration_length_;
};

const CommandRegistration<Bench> kBench("bench", "measure decoding: latency, throughput, memory, share of the roofline",
                                        {"mlaforge bench configs/bench/smollm_135m.json",
                                         "mlaforge bench --model ../shared/data/weights/tinystories-656k --batch 1,8 "
                                         "--context 64,128 --new-tokens 16 --cache plain --cache rtn4"});

}  // namespace
}  // namespace mla
