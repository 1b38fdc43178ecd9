#include "core/base/fields.h"
#include "core/base/interrupt.h"
#include "core/base/progress.h"
#include "core/base/yaml.h"
#include "core/evaluate/recall.h"
#include "core/model/checkpoint.h"
#include "experiments/cli/command.h"
#include "experiments/cli/table.h"
#include "experiments/commands/measurement_record.h"
#include "experiments/model/model_files.h"
#include "experiments/model/placement_options.h"
#include "experiments/tasks/distance_scores.h"
#include "experiments/tasks/recall_scores.h"

namespace mla {
namespace {

class Recall final : public Command {
 public:
  void declare(OptionList& options) override {
    options.require("model", model_, "MODEL", "a model folder, a GGUF or a llama2.c .bin file");
    options.add("kind", kind_, "KIND", "passkey | needle | key_value (default: passkey)");
    options.add("lengths", lengths_, "N,M,…", "tokens of a context (default: 256)");
    options.add("depths", depths_, "D,E,…", "where the answer stands, 0 to 1 (default: 0,0.25,0.5,0.75,1)");
    options.add_count("items", items_, 1, "of each length and depth (default: 20)");
    options.add_count("seed", seed_, 0, "of the items (default: 0)");
    options.add(
        "options", file_, "FILE",
        "a .json file of these and the texts: {\"kind\": …, \"statement\": \" The number of {key} is {value}.\", …}");
    options.add("tokenizer", tokenizer_, "PATH", "tokenizer file or folder; default: in the model's folder");
    options.add_count("batch-tokens", batch_tokens_, 1, "tokens of one forward pass, padding included");
    model_options_.declare(options);
    output_.declare(options, "the report with every item and its values");
  }

  ExitCode run(Console& console) override {
    const LoadOptions loading = model_options_.loading();
    const RecallOptions recall_options = read_options();
    const auto tokenizer = load_model_tokenizer(model_, tokenizer_, load_spec(model_));
    const RecallTask task = make_recall_task(recall_options, *tokenizer, console.workers());
    const Checkpoint checkpoint = load_checkpoint(model_, loading);
    const RecallResult result = ask(checkpoint.decoder, task);
    Json metrics = Json::object();
    const std::vector<ScoreRecord> scores = recall_scores(kMeasuredStage, "recall", task, result);
    for (const ScoreRecord& score : scores) metrics[score.metric] = score_with_interval(score);
    print(metrics, recall_options, console.text());
    const Json report = {{"model", model_.string()},
                         {"options", write_fields(recall_options)},
                         {"items", task.items.size()},
                         {"chance", 1.0 / static_cast<double>(recall_options.choices)},
                         {"metrics", metrics}};
    if (output_.wants_report()) output_.write_report(detailed(report, task, result));
    if (output_.wants_record()) {
      RunRecord record = new_record(recall_options, checkpoint.decoder, console);
      record.evaluation = scores;
      output_.write_record(record, console);
    }
    console.report(report);
    return ExitCode::kDone;
  }

 private:
  /// Without scores.
  RunRecord new_record(const RecallOptions& options, const Decoder& decoder, const Console& console) const {
    Measurement measurement{"recall", model_, model_options_, ""};
    measurement.config["evaluate"] = Json::array({{{"task", "recall"}, {"recall", write_fields(options)}}});
    measurement.subject = cat("on ", measurement.config["evaluate"][0]["recall"]["kind"].get<std::string>());
    measurement.seed = options.seed;
    if (tokenizer_) measurement.inputs = files_of_tokenizer(*tokenizer_, "tokenizer");
    return record_of(measurement, &decoder, console);
  }

  RecallOptions read_options() const {
    Json json = file_ ? read_json_or_yaml(*file_) : Json::object();
    const std::string place = file_ ? file_->string() : "";
    if (!json.is_object()) throw ConfigError(cat(place, ": expected an object of options, found ", kind_of(json)));
    if (kind_) json["kind"] = *kind_;
    if (lengths_) json["lengths"] = list("--lengths", *lengths_);
    if (depths_) json["depths"] = list("--depths", *depths_);
    if (items_) json["items"] = *items_;
    if (seed_) json["seed"] = *seed_;
    RecallOptions options;
    read_fields(json, place, options);
    options.validate(place.empty() ? "recall" : place);
    return options;
  }

  static Json list(const std::string& option, const std::string& text) {
    try {
      return parse_json("[" + text + "]", option);
    } catch (const DataError&) {
      throw ConfigError(cat(option, " ", text, ": expected numbers joined by commas"));
    }
  }

  RecallResult ask(const Decoder& decoder, const RecallTask& task) const {
    install_interrupt_handler();
    std::int64_t total = 0;
    for (const ContinuationGroup& group : task.tokens) total += std::ssize(group);
    Progress bar("recall", total, "choices");
    return recall(decoder, task, batch_tokens_, [&](std::int64_t count) {
      check_interrupt();
      bar.advance(count);
    });
  }

  static Json detailed(Json report, const RecallTask& task, const RecallResult& result) {
    Json items = Json::array();
    for (std::size_t i = 0; i < task.items.size(); ++i) {
      Json item = write_fields(task.items[i].question);
      item.update({{"length", task.items[i].length},
                   {"depth", task.items[i].depth},
                   {"exact", result.exact[i]},
                   {"chosen", result.chosen[i]},
                   {"nll", result.nll[i]}});
      items.push_back(std::move(item));
    }
    report["per_item"] = std::move(items);
    return report;
  }

  /// A row per length and depth.
  static void print(const Json& metrics, const RecallOptions& options, std::ostream& out) {
    Table table({"length", "depth", "exact", "chosen of " + std::to_string(options.choices), "NLL of the answer"});
    const auto value = [&](const std::string& metric) {
      const Json& score = metrics.at(metric);
      return cat(rounded(score["value"].get<double>(), 3), " ± ", rounded(score["standard_error"].get<double>(), 2));
    };
    for (const std::int64_t length : options.lengths) {
      for (const double depth : options.depths) {
        const std::string place = cat("_", length, "_at_", 100 * depth);
        table.add({cat(length), cat(depth), value("exact" + place), value("choice" + place), ""});
      }
      const std::string place = cat("_", length);
      table.add({cat(length), "all", value("exact" + place), value("choice" + place), value("answer_nll" + place)});
    }
    table.print(out);
  }

  std::filesystem::path model_;
  std::optional<std::string> kind_, lengths_, depths_;
  std::optional<std::int64_t> items_, seed_;
  std::optional<std::filesystem::path> file_, tokenizer_;
  OutputFiles output_;
  std::int64_t batch_tokens_ = 8192;
  PlacementOptions model_options_;
};

const CommandRegistration<Recall> kRecall(
    "recall", "whether a model finds a pass key, needle or value in a long context, by length and depth",
    {"mlaforge recall --model MODEL --kind passkey --lengths 256,1024 --depths 0,0.5,1",
     "mlaforge recall --model OUT --kind key_value --lengths 512 --items 50 -o items.json -o recall.h5"});

}  // namespace
}  // namespace mla
