#include <ATen/Parallel.h>

#include <algorithm>
#include <chrono>

#include "core/base/byte_size.h"
#include "core/base/config.h"
#include "core/base/fields.h"
#include "core/base/interrupt.h"
#include "core/base/progress.h"
#include "core/base/registry.h"
#include "core/compress/calibration/calibrate_by_layer.h"
#include "core/compress/pass.h"
#include "core/model/checkpoint.h"
#include "core/model/save_in_shards.h"
#include "core/model/weight_pages.h"
#include "experiments/cache/model_cache.h"
#include "experiments/cli/comma_list.h"
#include "experiments/cli/command.h"
#include "experiments/commands/conversion_report.h"
#include "experiments/commands/convert_automatic.h"
#include "experiments/config/experiment_config.h"
#include "experiments/model/dtype.h"
#include "experiments/model/model_files.h"
#include "experiments/model/placement_options.h"
#include "experiments/plan/pass_list.h"

namespace mla {
namespace {

/// Rows of calibration text, as in MHA2MLA's appendix A.
constexpr std::int64_t kCalibrationRows = 1024, kCalibrationLength = 2048;
/// Of searches for a method, which convert several times.
constexpr std::int64_t kSearchRows = 128, kSearchLength = 256;

/// One conversion to make: its passes and where the result goes.
struct Job {
  Json compress;
  std::filesystem::path output;
  std::vector<PlannedPass> passes;
};

/// Converts a model's attention and writes it as a Hugging Face folder with its latent attention in config.json.
class Convert final : public Command {
 public:
  void declare(OptionList& options) override {
    options.add("model", model_, "MODEL", "the source model: a Hugging Face folder, a GGUF or a llama2.c .bin file");
    options.require("output,o", output_, "FOLDER", "folder for the converted model");
    options.argument("config", config_, "CONFIG",
                     "a config with `compress` and, if needed, `calibration` (instead of the flags below)");
    options.add(
        "method", method_, "NAME",
        "one pass instead of mha2mla (mlaforge list pass): mkla | kv_heads | lorc | mfa | mka | saap | …; NAME,NAME,… "
        "makes several in order, such as fold_qk_norm,mkla; auto: whichever loses least on calibration text at "
        "--budget");
    budget_.declare(options);
    options.add(
        "cached", cached_, "VALUES",
        "--method: values cached per token and layer, on average; for a last pass that has the option `cached`");
    options.add("set", set_, "KEY=VALUE",
                "--method: an option of the last pass, its value as in a config; may be repeated");
    options.add("rope", rope_, "NAME", "pairs that keep RoPE: high | low | uniform | two_norm | all");
    options.add("pairs", pairs_, "R", "rotation pairs kept per head; default head_dim / 16");
    options.add("norm-score", norm_score_, "RULE", "two_norm: product | sum of mean norms");
    options.add("low-rank", low_rank_, "NAME", "joint_svd | split_svd | value_svd | none");
    options.add("d-kv", d_kv_, "N",
                "latent elements per KV head and token, keys and values together; N,M,… makes one model each, "
                "in OUTPUT/d_kv_N, from one decomposition");
    options.add("split-budget", split_budget_, "RULE", "split_svd: total | each (the official code's doubled latent)");
    options.add("placement", placement_, "WHERE", "singular values in: up | sqrt | down");
    options.add("svd", svd_, "METHOD", "auto | exact | gram | randomized");
    options.add("calibration", calibration_, "FILE",
                "where a strategy measures the model: text, or JSON {\"ids\": [[…]]}");
    options.add_count("calibration-rows", calibration_rows_, 1,
                      "rows of calibration data at most; default: 1024 of a text (--budget: 128), all of a JSON file");
    options.add_count("calibration-length", calibration_length_, 1,
                      "tokens of a calibration row at most; default: 2048 (--budget: 256)");
    options.flag("calibration-spread", calibration_spread_,
                 "these rows at even distances over the whole text instead of its first ones");
    options.add("calibration-field", documents_.jsonl_field, "NAME",
                "the field of each JSON object that holds the text");
    options.flag("skip-bad-lines", documents_.skip_bad_lines,
                 "leave out, and count, JSON lines of the calibration text that cannot be read or lack the field");
    options.add("tokenizer", tokenizer_, "PATH", "tokenizer for the calibration text; default: beside the model");
    options.add("dtype", dtype_, "TYPE",
                "precision of the decomposition and of the new weights: float32 | float64; default: "
                "float32, new weights in the dtype of those they replace");
    options.add("max-shard-size", max_shard_size_, "N",
                "weights above this go to several files with an index: bytes, or a number and KB, MB or GB");
    declare_device(options, device_, "cpu, or the config's");
    declare_weights(options, weights_, "dense, or the config's");
    declare_products(options, products_, "float32, or the config's");
  }

  ExitCode run(Console& console) override {
    install_interrupt_handler();
    const auto start = std::chrono::steady_clock::now();
    ExperimentConfig config = config_ ? read_config() : ExperimentConfig{};
    if (model_) config.model.path = model_->string();
    if (config.model.path.empty()) throw ConfigError("--model: name the source model");
    expect_other_place(output_, config.model.path, "--output");
    if (tokenizer_) config.model.tokenizer = tokenizer_->string();
    if (dtype_) config.arithmetic = *dtype_;
    if (config.arithmetic != "float32" && config.arithmetic != "float64") {
      throw ConfigError(cat("--dtype ", config.arithmetic, ": known: float32, float64"));
    }
    if (device_) config.device = *device_;
    parse_device(config.device, device_ || !config_ ? "--device" : cat(config_->string(), ": device"));
    config.products = settled_products(products_.value_or(config.products),
                                       products_ || !config_ ? "--products" : cat(config_->string(), ": products"));
    if (weights_) config.model.weights = parse_held_weights(*weights_, "--weights");
    shard_bytes_ = parse_bytes(max_shard_size_, "--max-shard-size");
    if (searches()) {
      Json report = convert_automatically(automatic_request(config), console);
      finish(report, start, console);
      return ExitCode::kDone;
    }
    const ModelSpec spec = load_spec(config.model.path, config.model.weights);
    std::vector<Job> jobs = make_jobs(config, spec);

    LoadOptions mapped = as_held(config);
    Checkpoint source = load_checkpoint(config.model.path, mapped);
    Requirements requirements;
    for (const Job& job : jobs) requirements.merge(job.passes.front().pass->requirements());
    const TokenRows rows = needs_statistics(jobs) ? calibration_rows(config, source.decoder) : TokenRows{};
    WeightShelf shelf(output_);
    const Statistics statistics = calibrate_on(rows, source.decoder, requirements, shelf);
    DecompositionStore store;
    for (const Job& job : jobs) job.passes.front().pass->announce(spec, store);
    Json reports = Json::array();
    for (const Job& job : jobs) {
      // Converting replaces layers; a second model starts from the mapped file again, which costs no memory.
      mapped.check_finite = false;
      if (!reports.empty()) source = load_checkpoint(config.model.path, mapped);
      reports.push_back(
          convert(config, job, source, rows, statistics, jobs.size() > 1 ? &store : nullptr, shelf, console));
      check_interrupt();
    }
    finish(reports.size() == 1 ? reports[0] : Json{{"models", reports}}, start, console);
    return ExitCode::kDone;
  }

 private:
  static void finish(Json report, std::chrono::steady_clock::time_point start, Console& console) {
    const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - start;
    report["seconds"] = passed.count();
    report["peak_memory_bytes"] = peak_memory_bytes();
    console.report(report);
  }

  bool searches() const {
    std::vector<std::string> others;
    for (const auto& [given, name] : {std::pair{config_.has_value(), "the config"},
                                      std::pair{cached_.has_value(), "--cached"}, std::pair{!set_.empty(), "--set"},
                                      std::pair{!d_kv_.empty(), "--d-kv"}, std::pair{pairs_.has_value(), "--pairs"}}) {
      if (given) others.emplace_back(name);
    }
    return budget_.search(method_, others, calibration_.has_value());
  }

  AutomaticRequest automatic_request(const ExperimentConfig& config) const {
    AutomaticRequest request;
    request.options = budget_;
    request.model = config.model.path;
    request.output = output_;
    request.loading = as_held(config);
    request.shard_bytes = shard_bytes_;
    if (dtype_) request.weights = request.loading.placement.compute;
    request.calibration = [this, &config](const Decoder& source) { return calibration_rows(config, source); };
    return request;
  }

  /// Weights as their files hold them, arithmetic as the config says.
  static LoadOptions as_held(const ExperimentConfig& config) {
    const Placement placement{parse_device(config.device, "device"), std::nullopt,
                              parse_dtype(config.arithmetic, "--dtype"), parse_products(config.products, "products")};
    return {.placement = placement, .weights = config.model.weights};
  }

  ExperimentConfig read_config() const {
    ExperimentConfig config;
    Json json = resolve_config(*config_);
    expand_environment(json);
    for (const char* key : {"grid", "baseline"}) json.erase(key);
    try {
      read_fields(json, "", config);
    } catch (const ConfigError& error) {
      throw ConfigError(cat(config_->string(), ": ", error.what()));
    }
    if (!config.stages.empty()) {
      throw ConfigError(cat(config_->string(),
                            ": stages: convert trains nothing; `mlaforge run` does, and saves the model ",
                            "where `save_model` says so"));
    }
    if (config.compress.empty()) throw ConfigError(cat(config_->string(), ": compress: name at least one pass"));
    return config;
  }

  Json compress_from_flags(const ModelSpec& spec, const std::string& width) const {
    const Json& rope_options = Registry<RotationStrategy>::instance().find(rope_, "--rope").defaults;
    Json rope = {{"name", rope_}};
    if (rope_options.contains("pairs")) rope["pairs"] = pairs_.value_or(std::max<std::int64_t>(1, spec.rope_dim / 16));
    if (rope_options.contains("score")) rope["score"] = norm_score_;
    Json low_rank = {{"name", low_rank_}};
    const Json& low_rank_options = Registry<Factorizer>::instance().find(low_rank_, "--low-rank").defaults;
    if (low_rank_options.contains("d_kv")) {
      if (width.empty()) throw ConfigError(cat("--d-kv: ", low_rank_, " needs the latent elements per KV head"));
      low_rank["d_kv"] = whole_numbers(width, "--d-kv", 1).front();
      low_rank["svd"] = {{"method", svd_}};
      low_rank["placement"] = placement_;
      if (low_rank_options.contains("split_budget")) low_rank["split_budget"] = split_budget_;
    }
    return Json::array({{{"name", "mha2mla"}, {"rope", rope}, {"low_rank", low_rank}}});
  }

  /// The option of that name, which passes have that can be told the size of their cache.
  Json cached_option(const std::string& method) const {
    const auto& passes = Registry<Pass>::instance();
    const auto has_it = [&](const std::string& name) {
      return passes.find(name, "compress[0].name").defaults.contains("cached");
    };
    if (has_it(method)) return try_parse_json(*cached_).value_or(Json(*cached_));
    std::vector<std::string> others = passes.names();
    std::erase_if(others, [&](const std::string& name) { return !has_it(name); });
    throw ConfigError(cat("--cached: --method ", method, " has no option `cached`; these have it: ", join(others)));
  }

  Json compress_from_method() const {
    if (!d_kv_.empty())
      throw ConfigError(cat("--d-kv: --method ", *method_, " takes its options by --set KEY=VALUE; leave it out"));
    Json passes = Json::array();
    for (const std::string& name : comma_list(*method_, "--method", "the name of a pass"))
      passes.push_back({{"name", name}});
    Json& pass = passes.back();
    if (cached_) pass["cached"] = cached_option(pass["name"]);
    for (const std::string& pair : set_) {
      const std::size_t equals = pair.find('=');
      if (equals == 0 || equals == std::string::npos) throw ConfigError(cat("--set ", pair, ": expected KEY=VALUE"));
      const std::string value = pair.substr(equals + 1);
      pass[pair.substr(0, equals)] = try_parse_json(value).value_or(Json(value));
    }
    return passes;
  }

  std::vector<Job> make_jobs(const ExperimentConfig& config, const ModelSpec& spec) const {
    std::vector<Job> jobs;
    if (config_ && (method_ || !set_.empty()))
      throw ConfigError(cat("--", method_ ? "method" : "set", ": the config says what to do; leave one of them out"));
    if (config_ && cached_) throw ConfigError("--cached: the config says what to do; leave one of them out");
    if (!method_ && !set_.empty()) throw ConfigError("--set: gives options of --method; name one");
    if (!method_ && cached_) throw ConfigError("--cached: gives an option of --method; name one");
    if (config_) {
      jobs.push_back({config.compress, output_, {}});
    } else if (method_) {
      jobs.push_back({compress_from_method(), output_, {}});
    } else if (d_kv_.find(',') == std::string::npos) {
      jobs.push_back({compress_from_flags(spec, d_kv_), output_, {}});
    } else {
      for (const std::int64_t width : whole_numbers(d_kv_, "--d-kv", 1)) {
        jobs.push_back({compress_from_flags(spec, std::to_string(width)), output_ / cat("d_kv_", width), {}});
      }
    }
    // Refuses what does not fit before any weight is read.
    for (Job& job : jobs) job.passes = plan_passes(job.compress, "compress", spec);
    if (needs_statistics(jobs) && !calibration_ && !config.calibration) {
      throw ConfigError(
          "--calibration: this conversion measures the model on data; name a text file or JSON {\"ids\": [[…]]}");
    }
    return jobs;
  }

  static bool needs_statistics(const std::vector<Job>& jobs) {
    return std::any_of(jobs.begin(), jobs.end(), [](const Job& job) {
      return std::any_of(job.passes.begin(), job.passes.end(),
                         [](const PlannedPass& one) { return one.pass->needs_calibration(); });
    });
  }
  TokenRows calibration_rows(const ExperimentConfig& config, const Decoder& decoder) const {
    DataOptions data = config.calibration.value_or(DataOptions{});
    if (calibration_) {
      data.files = {calibration_->string()};
      data.documents = documents_;
      data.length = std::min(calibration_length_.value_or(budget_.budget ? kSearchLength : kCalibrationLength),
                             decoder.spec().max_positions);
      data.long_documents = "split";
      data.spread_rows = calibration_spread_;
      data.max_rows = calibration_rows_.value_or(holds_token_ids(*calibration_) ? 0
                                                 : budget_.budget               ? kSearchRows
                                                                                : kCalibrationRows);
    }
    data.validate("calibration");
    const bool ids = data.files.size() == 1 && holds_token_ids(data.files.front());
    std::unique_ptr<Tokenizer> tokenizer;
    if (!ids) {
      std::optional<std::filesystem::path> given;
      if (!config.model.tokenizer.empty()) given = config.model.tokenizer;
      tokenizer = load_model_tokenizer(config.model.path, given, decoder.spec());
    }
    return load_rows(data, tokenizer.get(), decoder.spec().vocabulary, at::get_num_threads());
  }

  /// Layer by layer where the rows' hidden states are smaller than the weights, which then need not all be in memory.
  static Statistics calibrate_on(const TokenRows& tokens, const Decoder& decoder, const Requirements& requirements,
                                 WeightShelf& shelf) {
    if (requirements.empty()) return {};
    const bool by_layer =
        can_calibrate_by_layer(requirements) && state_bytes(decoder, tokens.rows) < decoder.weight_bytes();
    Progress bar("calibrate", tokens.tokens() * (by_layer ? decoder.spec().layer_count() : 1), "tokens");
    const auto progress = [&](std::int64_t count) {
      bar.advance(count);
      check_interrupt();
    };
    if (!by_layer) return calibrate(decoder, tokens.rows, requirements, {}, progress);
    const auto keep = [&](const at::Tensor& value) { return shelf.shelve(value); };
    return calibrate_by_layer(decoder, tokens.rows, requirements, {}, keep, progress);
  }

  /// The first pass sees the source model, whose statistics and decompositions jobs share; later ones what it left.
  Json convert(const ExperimentConfig& config, const Job& job, Checkpoint& checkpoint, const TokenRows& rows,
               const Statistics& of_source, DecompositionStore* store, WeightShelf& shelf, Console& console) const {
    const ModelSpec source = checkpoint.decoder.spec();
    std::optional<Checkpoint> before;  // mapped once more, where a pass compares with it
    std::vector<PassReport> reports;
    for (const PlannedPass& planned : job.passes) {
      PassInputs inputs;
      Statistics own;
      if (!reports.empty()) own = calibrate_on(rows, checkpoint.decoder, planned.pass->requirements(), shelf);
      if (planned.pass->reads_source() && !before) {
        LoadOptions mapped = as_held(config);
        mapped.check_finite = false;
        before = load_checkpoint(config.model.path, mapped);
      }
      inputs.rows = &rows.rows;
      inputs.source = before ? &before->decoder : nullptr;
      inputs.statistics = reports.empty() ? &of_source : &own;
      inputs.store = reports.empty() ? store : nullptr;
      inputs.arithmetic = checkpoint.decoder.compute_dtype;
      if (dtype_) inputs.weights = inputs.arithmetic;
      Progress bar("convert", planned.after.layer_count(), "layers");
      inputs.progress = [&](std::int64_t layer) {
        shelf.shelve_layer(checkpoint.decoder, layer);
        bar.advance();
        check_interrupt();
      };
      reports.push_back(run_pass(planned.name, *planned.pass, checkpoint.decoder, inputs));
    }
    Json report = conversion_json(reports, source);
    report["weight_bytes"] = checkpoint.decoder.weight_bytes();
    report["output"] = job.output.string();
    report["compress"] = job.compress;
    save_checkpoint(checkpoint, job.output, shard_bytes_);
    write_cache_of_model(job.output, {});
    write_json(job.output / kConversionFile, report);
    print_conversion(report, console.text());
    return report;
  }

  std::optional<std::filesystem::path> model_, config_, calibration_, tokenizer_;
  std::filesystem::path output_;
  std::string rope_ = "two_norm", norm_score_ = "product", low_rank_ = "joint_svd", d_kv_, split_budget_ = "total";
  std::string placement_ = "up", svd_ = "auto", max_shard_size_ = "5GB";
  std::int64_t shard_bytes_ = kShardBytes;
  std::optional<std::int64_t> pairs_;
  std::optional<std::string> method_, cached_, dtype_, device_, weights_, products_;
  BudgetOptions budget_;
  std::vector<std::string> set_;
  std::optional<std::int64_t> calibration_rows_, calibration_length_;
  bool calibration_spread_ = false;
  DocumentOptions documents_;
};

const CommandRegistration<Convert> kConvert(
    "convert", "convert a model's attention to multi-head latent attention, or compress it by another method",
    {"mlaforge convert --model MODEL --output OUT --budget 20% --calibration text.txt",
     "mlaforge convert --model MODEL --output OUT --rope high --pairs 4 --low-rank joint_svd --d-kv 16",
     "mlaforge convert configs/experiments/tinystories-656k.json --output OUT",
     "mlaforge convert --model MODEL --output OUT --method kv_heads --set kv_heads=2 --calibration text.txt",
     "mlaforge convert --model MODEL --output OUT --method lorc --set width=32",
     "mlaforge convert --model MODEL --output OUT --rope two_norm --pairs 4 --calibration text.txt --low-rank "
     "joint_svd --d-kv 8,16,32"});

}  // namespace
}  // namespace mla
