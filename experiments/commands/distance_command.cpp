#include <algorithm>
#include <cmath>
#include <utility>

#include "core/base/fields.h"
#include "core/base/interrupt.h"
#include "core/base/progress.h"
#include "core/evaluate/divergence.h"
#include "core/evaluate/multiple_choice.h"
#include "core/model/checkpoint.h"
#include "experiments/cli/command.h"
#include "experiments/cli/table.h"
#include "experiments/commands/measurement_record.h"
#include "experiments/data/evaluation_text.h"
#include "experiments/model/model_files.h"
#include "experiments/model/placement_options.h"
#include "experiments/tasks/distance_scores.h"
#include "experiments/tasks/multiple_choice_scores.h"

namespace mla {
namespace {

constexpr const char* kDistanceStage = "converted";

class Distance final : public Command {
 public:
  void declare(OptionList& options) override {
    options.add("model", model_, "MODEL", "the model whose distance is wanted");
    options.add("source", source_, "MODEL", "the model it was made from, which runs beside it");
    options.add("reference", reference_, "FILE", "instead of --source: what --save kept of it for the same text");
    options.add("text", text_file_, "FILE",
                "text, .jsonl, .json (texts, or {\"ids\": [[…]]}), also compressed, or a token shard");
    options.add("items", items_, "FILE", "multiple-choice items (.jsonl), for flipped answers; may be repeated");
    options.add("save", save_, "FILE", "keep the source's predictions of the text in this .safetensors file");
    options.add_count("kept", kept_, 0, "with --save: likeliest tokens kept of each prediction; 0: all");
    options.section("text");
    options.add_count("context", context_, 2, "tokens of a window; default: the model's context, up to 2048");
    options.add_count("stride", stride_, 1, "tokens from one window to the next; default: context");
    options.add_count("batch-tokens", batch_tokens_, 1, "tokens of one forward pass, padding included");
    options.add("tokenizer", tokenizer_, "PATH", "tokenizer file or folder; default: in the source model's folder");
    options.add("separator", text_.documents.separator, "TEXT", "compare each part between separators by itself");
    options.flag("normalize-whitespace", text_.documents.normalize_whitespace,
                 "strip lines, make runs of white space one space, drop empty lines");
    options.add("field", text_.documents.jsonl_field, "NAME", "the field of each JSON object that holds the text");
    options.flag("skip-bad-lines", text_.documents.skip_bad_lines,
                 "leave out, and count, JSON lines that cannot be read or lack the field");
    options.add_count("max-documents", text_.limit, 1, "only the first N documents");
    options.renamed("documents", "separator");
    options.renamed("limit-documents", "max-documents");
    model_options_.declare(options);
    output_.declare(options, "the report with every token's values");
  }

  ExitCode run(Console& console) override {
    check();
    const LoadOptions loading = model_options_.loading();
    const std::filesystem::path first = source_ ? *source_ : *model_;
    const ModelSpec spec = load_spec(first);
    std::optional<StoredDistributions> stored;
    if (reference_) stored = read_distributions(*reference_);
    const PerplexityOptions options = windows(spec, stored);
    EvaluationRows text;
    if (text_file_) {
      text_.file = *text_file_;
      text = read_evaluation_rows(text_, first, tokenizer_, spec, console.workers());
    }
    install_interrupt_handler();
    std::optional<Checkpoint> source, model;
    if (source_) source = load_checkpoint(*source_, loading);
    if (model_) model = load_checkpoint(*model_, loading);
    Json report = {{"model", model_ ? Json(model_->string()) : Json()},
                   {"source", source_ ? Json(source_->string()) : Json()},
                   {"dtype", model_options_.dtype},
                   {"products", model_options_.used_products()}};
    std::vector<ScoreRecord> scores;
    if (save_) keep(source->decoder, text, options, report, console);
    if (model && text_file_) compare_text(source, stored, model->decoder, text, options, report, scores, console);
    if (!items_.empty()) compare_items(*source, *model, report, scores, console);
    if (output_.wants_record()) write_record(options, model->decoder, std::move(scores), console);
    console.report(report);
    return ExitCode::kDone;
  }

 private:
  void check() const {
    if (!model_ && !save_)
      throw ConfigError(
          "--model: name the model whose distance is wanted (or --save FILE, to keep the source's predictions)");
    if (source_.has_value() == reference_.has_value())
      throw ConfigError("give either --source MODEL or --reference FILE");
    if (!text_file_ && (items_.empty() || save_ || reference_))
      throw ConfigError("--text: name a text on which the models are compared");
    if (save_ && !source_) throw ConfigError("--save: needs --source, whose predictions are kept");
    if (output_.wants_record() && !model_) throw ConfigError("--output: without --model there is nothing to record");
    if (!items_.empty() && (!source_ || !model_))
      throw ConfigError("--items: needs --source and --model, which both answer them");
  }

  PerplexityOptions windows(const ModelSpec& spec, const std::optional<StoredDistributions>& stored) const {
    PerplexityOptions options;
    const std::int64_t usual = std::min(spec.max_positions, kLongestDefaultContext);
    options.context = context_.value_or(stored ? stored->context : usual);
    options.stride = stride_.value_or(stored && !context_ ? stored->stride : options.context);
    options.batch_tokens = batch_tokens_;
    options.validate("distance");
    return options;
  }

  template <class Work>
  static auto with_progress(const std::string& what, std::int64_t total, const std::string& unit, const Work& work) {
    Progress bar(what, total, unit);
    return work([&](std::int64_t count) {
      check_interrupt();
      bar.advance(count);
    });
  }

  void keep(const Decoder& source, const EvaluationRows& text, const PerplexityOptions& options, Json& report,
            Console& console) const {
    StoredDistributions stored =
        with_progress("keep predictions", text.scorable_tokens(), "tokens", [&](const TokenProgress& progress) {
          return store_distributions(source, text.rows, options, kept_, progress);
        });
    stored.model = source_->string();
    write_distributions(*save_, stored);
    const auto bytes = std::filesystem::file_size(*save_);
    report["saved"] = {{"file", save_->string()},         {"bytes", bytes},
                       {"tokens", stored.tokens()},       {"kept", stored.kept()},
                       {"mean_tail", stored.mean_tail()}, {"largest_error", stored.largest_error()}};
    console.text() << save_->string() << ": " << stored.tokens() << " predictions, " << stored.kept() << " of "
                   << stored.vocabulary << " tokens each, " << grouped(static_cast<std::int64_t>(bytes))
                   << " bytes; mean probability of the others " << rounded(stored.mean_tail(), 3) << '\n';
  }

  void compare_text(const std::optional<Checkpoint>& source, const std::optional<StoredDistributions>& stored,
                    const Decoder& model, const EvaluationRows& text, const PerplexityOptions& options, Json& report,
                    std::vector<ScoreRecord>& scores, Console& console) const {
    const TokenDivergence tokens =
        with_progress("distance", text.scorable_tokens(), "tokens", [&](const TokenProgress& progress) {
          return source ? divergence(source->decoder, model, text.rows, options, progress)
                        : divergence(*stored, model, text.rows, options, progress);
        });
    Json metrics = Json::object();
    scores = distance_scores(kDistanceStage, "distance", tokens);
    for (const ScoreRecord& score : scores) metrics[score.metric] = score_with_interval(score);
    // The ratio is the exponential of a mean, and so are the ends of its interval.
    for (const char* end : {"low", "high"}) {
      const Json& difference = metrics["nll_difference"][end];
      if (!difference.is_null()) metrics["perplexity_ratio"][end] = std::exp(difference.get<double>());
    }
    print(metrics, console.text());
    console.text() << tokens.kl.size() << " tokens; errors and 95 % intervals take each " << tokens.groups.unit
                   << " as independent\n";
    report.update({{"file", text_.file.string()},
                   {"tokens", tokens.kl.size()},
                   {"documents", text.rows.size()},
                   {"skipped_lines", text.skipped},
                   {"context", options.context},
                   {"stride", *options.stride},
                   {"group_unit", tokens.groups.unit},
                   {"metrics", metrics}});
    if (stored) {
      report["reference"] = {{"file", reference_->string()},
                             {"model", stored->model},
                             {"kept", stored->kept()},
                             {"mean_tail", stored->mean_tail()},
                             {"largest_error", stored->largest_error()}};
    }
    if (!output_.wants_report()) return;
    Json detailed = report;
    detailed["per_token"] = {
        {"kl", tokens.kl}, {"source_nll", tokens.source_nll}, {"nll", tokens.nll}, {"agrees", tokens.agrees}};
    output_.write_report(detailed);
  }

  void compare_items(const Checkpoint& source, const Checkpoint& model, Json& report,
                     std::vector<ScoreRecord>& all_scores, Console& console) const {
    const auto tokenizer = load_model_tokenizer(*source_, tokenizer_, source.decoder.spec());
    Json all = Json::object();
    for (const std::string& file : items_) {
      const MultipleChoiceTask task =
          make_multiple_choice(read_multiple_choice_items(file), *tokenizer, console.workers());
      const auto answers = [&](const Decoder& decoder, const char* who) {
        return with_progress(cat(who, " answers"), choices(task), "choices", [&](const TokenProgress& progress) {
          return multiple_choice(decoder, task, {.batch_tokens = batch_tokens_}, progress);
        });
      };
      const auto before = answers(source.decoder, "source"), after = answers(model.decoder, "model");
      const std::string name = task_name(file);
      const std::vector<ScoreRecord> source_scores = multiple_choice_scores("source", name, task, before);
      const std::vector<ScoreRecord> scores = multiple_choice_scores(kDistanceStage, name, task, after);
      // From log-likelihoods of all choices flip_scores() has answer_changes, too.
      std::vector<ScoreRecord> changes = {answer_changes(kDistanceStage, name, before, after)};
      for (ScoreRecord& flip : flip_scores(source_scores, scores)) {
        if (flip.metric != changes.front().metric) changes.push_back(std::move(flip));
      }
      Json metrics = Json::object();
      for (const ScoreRecord& score : changes) metrics[score.metric] = score_with_interval(score);
      for (const auto* list : {&source_scores, &scores, &std::as_const(changes)})
        all_scores.insert(all_scores.end(), list->begin(), list->end());
      for (const auto& [list, who] : {std::pair{&source_scores, "source_"}, {&scores, ""}}) {
        for (const ScoreRecord& score : *list) {
          if (score.standard_error) metrics[who + score.metric] = score_with_interval(score);
        }
      }
      console.text() << '\n' << file << '\n';
      print(metrics, console.text());
      all[file] = metrics;
    }
    report["items"] = all;
  }

  /// The file's name, or, where two items files have the same, its whole path; records take no '/' in it.
  std::string task_name(const std::string& file) const {
    const auto name = [](const std::string& path) { return std::filesystem::path(path).filename().string(); };
    if (std::count_if(items_.begin(), items_.end(), [&](const auto& other) { return name(other) == name(file); }) == 1)
      return name(file);
    std::string whole = file;
    std::replace(whole.begin(), whole.end(), '/', '_');
    return whole;
  }

  void write_record(const PerplexityOptions& options, const Decoder& model, std::vector<ScoreRecord> scores,
                    Console& console) const {
    Measurement measurement{"distance", *model_, model_options_, ""};
    const std::filesystem::path source = source_ ? *source_ : *reference_;
    measurement.subject = cat("from ", std::filesystem::weakly_canonical(source).filename().string());
    measurement.config["source"] = {{"path", source.string()}};
    Json& tasks = measurement.config["evaluate"] = Json::array();
    if (text_file_) {
      tasks.push_back({{"task", "distance"},
                       {"data", {{"files", {text_file_->string()}}, {"documents", write_fields(text_.documents)}}},
                       {"context", options.context},
                       {"stride", *options.stride}});
      if (text_.limit) tasks.back()["data"]["max_documents"] = *text_.limit;
      measurement.inputs.emplace("evaluate[0][0]", *text_file_);
    }
    for (const std::string& file : items_) {
      measurement.inputs.emplace(cat("evaluate[", tasks.size(), "][0]"), file);
      tasks.push_back({{"task", "multiple_choice"}, {"name", task_name(file)}, {"items", file}});
    }
    if (source_) measurement.inputs.merge(files_of_model(*source_, "source"));
    if (reference_) measurement.inputs.emplace("reference", *reference_);
    if (tokenizer_) measurement.inputs.merge(files_of_tokenizer(*tokenizer_, "tokenizer"));
    RunRecord record = record_of(measurement, &model, console);
    for (CacheRecord& cache : record.cache) cache.stage = kDistanceStage;
    record.evaluation = std::move(scores);
    output_.write_record(record, console);
  }

  static std::int64_t choices(const MultipleChoiceTask& task) {
    std::int64_t count = 0;
    for (const ContinuationGroup& group : task.tokens) count += std::ssize(group);
    return count;
  }

  static void print(const Json& metrics, std::ostream& out) {
    Table table({"measure", "value", "standard error", "95 % interval", "unit"});
    for (const auto& [metric, score] : metrics.items()) {
      const auto number = [&](const char* key, int digits) {
        return score[key].is_null() ? std::string() : rounded(score[key].get<double>(), digits);
      };
      const std::string interval = score["low"].is_null() ? "" : cat(number("low", 4), " to ", number("high", 4));
      table.add({metric, number("value", 6), number("standard_error", 2), interval, score["unit"].get<std::string>()});
    }
    table.print(out);
  }

  std::optional<std::filesystem::path> model_, source_, reference_, text_file_, save_, tokenizer_;
  OutputFiles output_;
  std::vector<std::string> items_;
  EvaluationText text_;
  std::optional<std::int64_t> context_, stride_;
  std::int64_t kept_ = 128, batch_tokens_ = 8192;
  PlacementOptions model_options_;
};

const CommandRegistration<Distance> kDistance(
    "distance", "how far a converted model is from its source: KL divergence, agreement, flipped answers",
    {"mlaforge distance --model OUT --source MODEL --text text.txt --context 512",
     "mlaforge distance --source MODEL --text text.txt --context 512 --save source.safetensors",
     "mlaforge distance --model OUT --reference source.safetensors --text text.txt",
     "mlaforge distance --model OUT --source MODEL --items items.jsonl --output results/models/distance.h5"});

}  // namespace
}  // namespace mla
