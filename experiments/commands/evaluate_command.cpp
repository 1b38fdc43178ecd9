#include <algorithm>

#include "core/base/fields.h"
#include "core/base/hash.h"
#include "core/base/identity.h"
#include "core/base/interrupt.h"
#include "core/base/log.h"
#include "core/base/progress.h"
#include "core/base/statistics.h"
#include "core/base/suggest.h"
#include "core/base/yaml.h"
#include "core/evaluate/perplexity.h"
#include "core/evaluate/position_buckets.h"
#include "core/model/checkpoint.h"
#include "experiments/cache/cache_check.h"
#include "experiments/cache/cached_decoding.h"
#include "experiments/cache/model_cache.h"
#include "experiments/cli/command.h"
#include "experiments/cli/table.h"
#include "experiments/commands/evaluate_tasks.h"
#include "experiments/commands/measurement_record.h"
#include "experiments/data/evaluation_text.h"
#include "experiments/model/model_files.h"
#include "experiments/model/placement_options.h"
#include "experiments/tasks/perplexity_scores.h"
#include "experiments/tasks/recall_scores.h"

namespace mla {
namespace {

/// The flat list of scored tokens cut into the sequences they belong to.
Json nll_rows(const PerplexityResult& result) {
  Json all = Json::array();
  auto next = result.nll.begin();
  for (const std::int64_t count : result.scored_per_sequence) {
    all.push_back(std::vector<double>(next, next + count));
    next += count;
  }
  return all;
}

class Evaluate final : public Command {
 public:
  void declare(OptionList& options) override {
    options.require("model", model_, "MODEL", "a model folder, a GGUF or a llama2.c .bin file");
    options.add("perplexity", text_.file, "FILE",
                "text, .jsonl, .json (texts, or {\"ids\": [[…]]}), also compressed, or a token shard");
    options.add("tasks", tasks_, "CONFIG", "instead: the tasks with items in this config's list \"evaluate\"");
    options.add("only", tasks_request_.only, "NAME", "of --tasks, only this one; may be repeated");
    options.add_count("max-items", tasks_request_.limit, 1, "of --tasks, only the first N items of each");
    options.renamed("limit", "max-items");
    options.add("keep", tasks_request_.keep, "FOLDER", "of --tasks: a killed run goes on from what it left here");
    options.add("predictions", tasks_request_.predictions, "FOLDER",
                "of --tasks: write what the model answered to LongBench's tasks here");
    options.add_count("context", context_, 2, "tokens of a window; default: the model's context, up to 2048");
    options.add_count("stride", stride_, 1, "tokens from one window to the next; default: context");
    options.add("windows", windows_, "RULE",
                "strided (default) | rolling, as lm-evaluation-harness: each token once, the first one after BOS | "
                "bos_per_window: BOS begins each window");
    options.add("tokenizer", tokenizer_, "PATH", "tokenizer file or folder; default: in the model's folder");
    options.add("separator", text_.documents.separator, "TEXT",
                "score each part between separators by itself; default: the file is one stream");
    options.flag("normalize-whitespace", text_.documents.normalize_whitespace,
                 "strip lines, make runs of white space one space, drop empty lines");
    options.add("field", text_.documents.jsonl_field, "NAME", "the field of each JSON object that holds the text");
    options.flag("skip-bad-lines", text_.documents.skip_bad_lines,
                 "leave out, and count, JSON lines that cannot be read or lack the field");
    options.add_count("max-documents", text_.limit, 1, "only the first N documents");
    options.renamed("documents", "separator");
    options.renamed("limit-documents", "max-documents");
    options.add("buckets", buckets_, "N,M,…",
                "besides, NLL by how many tokens stand before: first positions of buckets; auto: powers of two");
    model_options_.declare(options);
    options.add("cache", cache_, "CACHE",
                "decode token by token through a cache: plain, a codec and its bits (hqq4, kivi2), or the \"cache\" of "
                "a config as JSON "
                "or a .json file");
    options.add("calibration", calibration_.file, "FILE",
                "text to calibrate the cache's codec on, where it needs that");
    output_.declare(options, "the report with every token's NLL");
  }

  ExitCode run(Console& console) override {
    if (tasks_) return evaluate_tasks(tasks_request(), console);
    const WindowRule windows = window_rule();
    if (text_.file.empty()) throw ConfigError("give --perplexity FILE or --tasks CONFIG");
    const LoadOptions loading = model_options_.loading();
    const ModelSpec spec = load_spec(model_, loading.weights);
    const PerplexityOptions options = perplexity_options(spec);
    const auto starts = buckets(options.context);
    const std::optional<CachedDecodingConfig> cache = cached_decoding(options.context, spec);
    const EvaluationRows text = read_evaluation_rows(text_, model_, tokenizer_, spec, console.workers());
    const Checkpoint checkpoint = load_checkpoint(model_, loading);
    if (!cache && !cache_of_model(model_).is_plain())
      log_info(cat("measured without a cache; --cache ", (model_ / kModelCacheFile).string(),
                   " measures through codes, as the model's folder stores it"));
    if (cache) return decode_through_cache(*cache, checkpoint.decoder, text, console);
    const PerplexityResult result = measure(checkpoint.decoder, text, options, windows);
    Json report = to_json(result, options, text.rows.size());
    if (windows != WindowRule::kStrided) report["windows"] = windows_;
    // Of the text whose tokens could be scored: what no BOS stands before is predicted by rolling windows alone.
    const std::int64_t bytes = bytes_of(text, windows).value_or(0);
    report["word_perplexity"] = text.words > 0 ? Json(perplexity_per(result, text.words)) : Json();
    report["byte_perplexity"] = bytes > 0 ? Json(perplexity_per(result, bytes)) : Json();
    report["skipped_lines"] = text.skipped;
    const auto parts = position_scores(kMeasuredStage, "perplexity", "nll", result.nll, result.positions, result.groups,
                                       starts, options.context, spec.max_positions);
    for (const ScoreRecord& score : parts)
      report["by_position"][score.metric] = {
          {"value", score.value}, {"standard_error", *score.standard_error}, {"n", score.n}};
    if (output_.wants_report()) {
      Json detailed = report;
      detailed["nll"] = nll_rows(result);
      output_.write_report(detailed);
    }
    print(result, report, console.text());
    if (output_.wants_record()) {
      RunRecord record =
          new_record({{"context", options.context}, {"stride", *options.stride}}, checkpoint.decoder, console);
      record.evaluation = perplexity_scores(kMeasuredStage, "perplexity", result);
      for (ScoreRecord part : parts) record.evaluation.push_back(std::move(part));
      output_.write_record(record, console);
    }
    console.report(report);
    return ExitCode::kDone;
  }

 private:
  /// A codec's name, a config's block as JSON, or a file of it; `context` where the block names none.
  std::optional<CachedDecodingConfig> cached_decoding(std::int64_t context, const ModelSpec& spec) const {
    if (!cache_) return {};
    CachedDecodingConfig config;
    config.decoding.context = context;
    config.decoding.prompt = context / 2;
    const bool is_text = cache_->find('{') != std::string::npos;
    if (is_text || cache_->ends_with(".json") || is_yaml(*cache_)) {
      read_fields(is_text ? parse_json(*cache_, "--cache") : read_json_or_yaml(*cache_), "--cache", config);
    } else {
      config.storage = parse_cache_config(*cache_, "--cache");
    }
    config.validate("--cache");
    if (needs_calibration(config.storage) && calibration_.file.empty()) {
      throw ConfigError(cat("--calibration is missing: ", config.storage.label(), " needs a text to be calibrated on"));
    }
    check_cache(config.storage, spec, {config.decoding.prompt, config.decoding.context - 1}, "--cache");
    return config;
  }

  ExitCode decode_through_cache(const CachedDecodingConfig& config, const Decoder& decoder, const EvaluationRows& text,
                                Console& console) const {
    install_interrupt_handler();
    CacheSamples samples;
    if (needs_calibration(config.storage)) {
      const EvaluationRows rows =
          read_evaluation_rows(calibration_, model_, tokenizer_, decoder.spec(), console.workers());
      samples = sample_cache(decoder, rows.rows, {.context = config.decoding.context});
    }
    const CacheFormat format = cache_format(config.storage, "--cache", std::move(samples));
    const CachedDecoding decoding = measure_cached_decoding(decoder, text.rows, config, format, "model", "perplexity");
    const CachedDecodingRecord& record = decoding.record;
    std::optional<Estimate> kl;
    if (!decoding.kl.empty()) kl = grouped_mean(decoding.kl, {});
    Table table({"measure", "value", "unit"});
    table.add({"perplexity", rounded(record.perplexity), ""});
    table.add({"mean NLL", rounded(record.nll), "nats/token"});
    table.add({"standard error", rounded(record.standard_error, 3), "nats/token"});
    if (kl) table.add({"KL from the cache as computed", rounded(kl->value), "nats/token"});
    table.add({"decoded", cat(record.n), "tokens"});
    table.add({"cache", record.codec, ""});
    table.add({"nominal bits", cat(record.nominal_bits), "bits/element"});
    table.add({"effective bits", rounded(record.effective_bits), "bits/element"});
    table.add({"cached tokens", cat(record.tokens), "tokens/window"});
    table.add({"cache bytes", grouped(record.counted_bytes), "bytes/window"});
    table.print(console.text());
    Json report = write_fields(record);
    report["mean_nll"] = record.nll;
    if (kl) report["kl_mean"] = {{"value", kl->value}, {"standard_error", kl->standard_error}};
    report["cache"] = write_fields(config);
    report["dtype"] = model_options_.dtype;
    report["products"] = model_options_.used_products();
    report["model"] = model_.string();
    report["file"] = text_.file.string();
    report["skipped_lines"] = text.skipped;
    output_.write_report(report, 2);
    if (output_.wants_record()) {
      RunRecord own = new_record({}, decoder, console);
      own.config["cache"] = write_fields(config);
      own.head.content_hash = hash_json({own.head.content_hash, identity_of_fields(config)});
      own.cached_decoding = {record};
      own.cached_decoding.front().stage = kMeasuredStage;
      own.evaluation = scores_of(decoding);
      output_.write_record(own, console);
    }
    console.report(report);
    return ExitCode::kDone;
  }

  /// A record without scores of the text; `windows`: how it was cut.
  RunRecord new_record(const Json& windows, const Decoder& decoder, const Console& console) const {
    Json task = {{"task", "perplexity"},
                 {"data", {{"files", {text_.file.string()}}, {"documents", write_fields(text_.documents)}}}};
    if (text_.limit) task["data"]["max_documents"] = *text_.limit;
    for (const auto& [key, value] : windows.items()) task[key] = value;
    Measurement measurement{"evaluate", model_, model_options_, cat("on ", text_.file.filename().string())};
    measurement.config["evaluate"] = Json::array({task});
    measurement.inputs = {{"evaluate[0][0]", text_.file}};
    if (tokenizer_) measurement.inputs.merge(files_of_tokenizer(*tokenizer_, "tokenizer"));
    if (!calibration_.file.empty()) measurement.inputs.emplace("calibration", calibration_.file);
    return record_of(measurement, &decoder, console);
  }

  TasksRequest tasks_request() const {
    if (!text_.file.empty()) throw ConfigError("--tasks: give either this or --perplexity");
    if (cache_ || context_ || stride_)
      throw ConfigError("--tasks: --cache, --context and --stride belong to --perplexity");
    TasksRequest request = tasks_request_;
    request.config = *tasks_;
    request.model = model_;
    request.tokenizer = tokenizer_;
    request.placement = model_options_;
    request.output = output_;
    return request;
  }

  PerplexityOptions perplexity_options(const ModelSpec& spec) const {
    PerplexityOptions options;
    options.context = context_.value_or(std::min(spec.max_positions, kLongestDefaultContext));
    options.stride = stride_.value_or(options.context);
    options.validate("evaluate");
    if (options.context > spec.max_positions)
      log_warning(cat("--context = ", options.context, " is more than the ", spec.max_positions,
                      " positions that the model was made for"));
    return options;
  }

  std::optional<std::vector<std::int64_t>> buckets(std::int64_t context) const {
    std::vector<std::int64_t> starts;
    if (!buckets_) return std::nullopt;
    if (*buckets_ == "auto") return starts;
    try {
      read_fields(parse_json("[" + *buckets_ + "]", "--buckets"), "--buckets", starts);
    } catch (const DataError&) {
      throw ConfigError(cat("--buckets ", *buckets_, ": expected positions joined by commas, or auto"));
    }
    check_buckets("--buckets", starts, context);
    return starts;
  }

  WindowRule window_rule() const {
    if (windows_.empty()) return WindowRule::kStrided;
    std::vector<std::string> known;
    std::optional<WindowRule> named;
    for (const auto& [name, rule] : enum_names(WindowRule{})) {
      if (name == windows_) named = rule;
      known.push_back(name);
    }
    if (!named) throw ConfigError(cat("--windows: ", unknown_name(windows_, known)));
    const WindowRule rule = *named;
    if (rule == WindowRule::kStrided) return rule;
    if (stride_) throw ConfigError(cat("--windows ", windows_, ": --stride belongs to strided windows"));
    if (cache_) throw ConfigError(cat("--windows ", windows_, ": not with --cache, which decodes strided windows"));
    return rule;
  }

  static std::optional<std::int64_t> bytes_of(const EvaluationRows& text, WindowRule windows) {
    if (windows == WindowRule::kStrided || text.text_bytes == 0) return text.bytes;
    return text.text_bytes;
  }

  static PerplexityResult measure(const Decoder& decoder, const EvaluationRows& text, const PerplexityOptions& options,
                                  WindowRule windows) {
    install_interrupt_handler();
    PerplexityOptions own = options;
    if (windows != WindowRule::kStrided) {
      own.stride = std::nullopt;
      if (!text.first_token)
        throw ConfigError(
            "--windows: rows of token ids, or a tokenizer without BOS and EOS, have no token to begin with");
    }
    Progress progress("perplexity", text.scorable_tokens(), "tokens");
    return perplexity_by(windows, text.first_token.value_or(0), decoder, text.rows, own, bytes_of(text, windows),
                         [&](std::int64_t tokens) {
                           check_interrupt();
                           progress.advance(tokens);
                         });
  }

  Json to_json(const PerplexityResult& result, const PerplexityOptions& options, std::size_t documents) const {
    return {{"perplexity", result.perplexity},
            {"mean_nll", result.mean_nll},
            {"bits_per_byte", result.bits_per_byte ? Json(*result.bits_per_byte) : Json()},
            {"standard_error", result.standard_error},
            {"group_unit", result.groups.unit},
            {"tokens", result.scored_tokens},
            {"documents", documents},
            {"context", options.context},
            {"stride", *options.stride},
            {"dtype", model_options_.dtype},
            {"products", model_options_.used_products()},
            {"model", model_.string()},
            {"file", text_.file.string()}};
  }

  static void print(const PerplexityResult& result, const Json& report, std::ostream& out) {
    Table table({"measure", "value", "unit"});
    table.add({"perplexity", rounded(result.perplexity), ""});
    table.add({"mean NLL", rounded(result.mean_nll), "nats/token"});
    table.add({"standard error", rounded(result.standard_error, 3), cat("nats/token, by ", result.groups.unit)});
    if (result.bits_per_byte) table.add({"bits per byte", rounded(*result.bits_per_byte), "bits/byte"});
    for (const auto& [key, name] :
         {std::pair{"word_perplexity", "word perplexity"}, {"byte_perplexity", "byte perplexity"}})
      if (report[key].is_number()) table.add({name, rounded(report[key].get<double>()), ""});
    table.add({"scored", cat(result.scored_tokens), "tokens"});
    for (const char* key : {"documents", "context", "stride"}) table.add({key, report[key].dump(), ""});
    table.print(out);
    if (!report.contains("by_position")) return;
    Table positions({"tokens before", "NLL", "standard error", "tokens"});
    for (const auto& [metric, score] : report["by_position"].items()) {
      positions.add({metric.substr(metric.find('_') + 1), rounded(score["value"].get<double>()),
                     rounded(score["standard_error"].get<double>(), 2), score["n"].dump()});
    }
    out << '\n';
    positions.print(out);
  }

  std::filesystem::path model_;
  std::optional<std::filesystem::path> tokenizer_, tasks_;
  OutputFiles output_;
  std::optional<std::string> cache_;
  std::string windows_;
  TasksRequest tasks_request_;
  EvaluationText text_, calibration_;
  std::optional<std::int64_t> context_, stride_;
  std::optional<std::string> buckets_;
  PlacementOptions model_options_;
};

const CommandRegistration<Evaluate> kEvaluate(
    "evaluate", "perplexity and bits per byte of a model on a text, or its scores on tasks",
    {"mlaforge evaluate --model ../shared/data/weights/stories260K/stories260K.bin "
     "--perplexity ../shared/data/corpora/tinystories/decoded_test.txt --context 256 --stride 128",
     "mlaforge evaluate --model MODEL --perplexity FILE --output results/models/MODEL.h5",
     "mlaforge evaluate --model MODEL --tasks configs/tasks/commonsense.json --max-items 200",
     "mlaforge evaluate --model ../shared/data/weights/tinystories-656k "
     "--perplexity ../shared/data/corpora/tinystories/decoded_test.txt --context 256 --cache "
     "'{\"codec\": {\"name\": \"hqq\", \"bits\": 4}, \"update\": \"requantize\", \"residual\": 128, \"prompt\": "
     "128}'"});

}  // namespace
}  // namespace mla
