#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "core/base/hash.h"
#include "core/base/interrupt.h"
#include "experiments/attribution/walk.h"
#include "experiments/cell/identity.h"
#include "experiments/cell/run_cell.h"
#include "experiments/cli/command.h"
#include "experiments/cli/table.h"
#include "experiments/commands/experiment_arguments.h"
#include "experiments/commands/run_provenance.h"
#include "experiments/sweep/sweep.h"
#include "experiments/tasks/distance_scores.h"

namespace mla {
namespace {

/// Those that the printed table shows, where there are.
const std::vector<std::string> kShown = {"perplexity",       "kl_mean",  "top1_agreement",
                                         "perplexity_ratio", "accuracy", "accuracy_normalized",
                                         "flip_rate",        "exact",    "choice"};

class Attribute final : public Command {
 public:
  void declare(OptionList& options) override {
    arguments_.declare(options);
    options.add("only", only_, "PATTERN", "the cell of a grid whose name matches the shell pattern, or contains it");
    options.flag("by-layer", by_layer_, "convert one layer at a time, too");
    options.flag("no-training", no_training_, "leave fine-tuning out");
    options.add("output,o", record_, "FILE", "write every step's scores with their samples to this .h5 record");
    options.renamed("record", "output");
  }

  ExitCode run(Console& console) override {
    install_interrupt_handler();
    ExperimentPlan plan = plan_experiment(arguments_.config, arguments_.overrides);
    const CellPlan& cell = chosen_cell(plan);
    Session session(plan.cells);
    const AttributionReport report = attribute(cell, session, by_layer_);
    print(report, console.text());
    if (!record_.empty()) write(report, cell, session, console);
    console.report(to_json(report, cell));
    return ExitCode::kDone;
  }

 private:
  /// The one cell with a conversion.
  CellPlan& chosen_cell(ExperimentPlan& plan) const {
    std::vector<CellPlan*> cells;
    std::string names;
    for (const CellPlan* selected : select_cells(plan, only_)) {
      for (CellPlan& cell : plan.cells) {
        if (&cell != selected || (cell.passes.empty() && plan.cells.size() > 1)) continue;
        cells.push_back(&cell);
        names += cat(names.empty() ? "" : ", ", cell.name);
      }
    }
    if (cells.size() != 1)
      throw ConfigError(cat("--only: name one of the ", cells.size(), " cells to attribute: ", names));
    if (no_training_) cells.front()->options.train.reset();
    return *cells.front();
  }

  static Json scores_json(const std::vector<ScoreRecord>& scores) {
    Json all = Json::array();
    for (const ScoreRecord& score : scores) {
      all.push_back({{"task", score.task},
                     {"metric", score.metric},
                     {"value", score.value},
                     {"standard_error", score.standard_error ? Json(*score.standard_error) : Json()},
                     {"n", score.n},
                     {"unit", score.unit}});
    }
    return all;
  }

  static Json to_json(const AttributionReport& report, const CellPlan& cell) {
    Json steps = Json::array(), layers = Json::array();
    for (const StepReport& step : report.steps) {
      Json changes = Json::array();
      for (const ScoreChange& change : step.changes) {
        changes.push_back({{"task", change.task},
                           {"metric", change.metric},
                           {"difference", change.difference.mean},
                           {"standard_error", change.difference.standard_error},
                           {"low", change.difference.low},
                           {"high", change.difference.high},
                           {"p_value", change.difference.p_value}});
      }
      steps.push_back({{"step", step.name}, {"scores", scores_json(step.scores)}, {"changes", changes}});
    }
    for (const LayerAttribution& layer : report.layers) {
      layers.push_back({{"step", layer.step}, {"layer", layer.layer}, {"scores", scores_json(layer.scores)}});
    }
    return {{"cell", cell.name}, {"steps", steps}, {"layers", layers}};
  }

  static const ScoreRecord* find(const std::vector<ScoreRecord>& scores, const std::string& task,
                                 const std::string& metric) {
    const auto found = std::find_if(scores.begin(), scores.end(), [&](const ScoreRecord& score) {
      return score.task == task && score.metric == metric;
    });
    return found == scores.end() ? nullptr : &*found;
  }

  static std::string with_error(const ScoreRecord* score) {
    if (!score) return "";
    return score->standard_error ? cat(rounded(score->value, 4), " ± ", rounded(*score->standard_error, 2))
                                 : rounded(score->value, 4);
  }

  static void print(const AttributionReport& report, std::ostream& out) {
    std::vector<std::string> heading = {"task", "measure"};
    for (const StepReport& step : report.steps)
      heading.push_back(report.steps.front().name == step.name ? step.name : "+ " + step.name);
    Table table(heading);
    for (const ScoreRecord& last : report.steps.back().scores) {
      if (std::find(kShown.begin(), kShown.end(), last.metric) == kShown.end()) continue;
      std::vector<std::string> row = {last.task, last.metric};
      for (const StepReport& step : report.steps) row.push_back(with_error(find(step.scores, last.task, last.metric)));
      table.add(row);
    }
    table.print(out);
    print_changes(report, out);
    if (!report.layers.empty()) print_layers(report, out);
  }

  /// What each step adds to the NLL and the KL, and to accuracies.
  static void print_changes(const AttributionReport& report, std::ostream& out) {
    Table table({"step", "task", "measure", "change", "95 % interval"});
    for (const StepReport& step : report.steps) {
      for (const ScoreChange& change : step.changes) {
        const bool shown =
            change.metric == "nll" || std::find(kShown.begin(), kShown.end(), change.metric) != kShown.end();
        if (!shown) continue;
        const BootstrapInterval& by = change.difference;
        table.add({step.name, change.task, change.metric, rounded(by.mean, 4),
                   cat(rounded(by.low, 3), " to ", rounded(by.high, 3))});
      }
    }
    out << "\nchange from the step before, on the same samples\n";
    table.print(out);
  }

  static void print_layers(const AttributionReport& report, std::ostream& out) {
    std::vector<std::string> steps;
    std::map<std::int64_t, std::vector<std::string>> rows;
    for (const LayerAttribution& layer : report.layers) {
      if (steps.empty() || steps.back() != layer.step) steps.push_back(layer.step);
      for (const char* metric : {"kl_mean", "perplexity_ratio"}) {
        rows[layer.layer].push_back(with_error(find(layer.scores, layer.scores.front().task, metric)));
      }
    }
    std::vector<std::string> heading = {"layer"};
    for (const std::string& step : steps) heading.insert(heading.end(), {cat("KL up to ", step), "perplexity ratio"});
    Table table(heading);
    for (auto& [layer, cells] : rows) {
      cells.insert(cells.begin(), cat(layer));
      table.add(cells);
    }
    out << "\none layer converted, all others those of the source\n";
    table.print(out);
  }

  void write(const AttributionReport& report, const CellPlan& cell, Session& session, Console& console) const {
    RunRecord record;
    record.head.experiment = cell.options.name;
    record.head.cell = cat("attribution of ", cell.name);
    record.head.content_hash = hash_json({"attribution", identify(cell, session).hash, by_layer_, no_training_});
    record.head.created = utc_now();
    record.config = cell.expanded;
    record.overrides = cell.overrides;
    record.provenance = provenance_of(console);
    record.provenance.seed = cell.options.seed;
    record.provenance.threads = at::get_num_threads();
    record.provenance.device = cell.options.device;
    record.provenance.data_hashes = session.data_hashes(cell.options);
    for (const StepReport& step : report.steps)
      record.evaluation.insert(record.evaluation.end(), step.scores.begin(), step.scores.end());
    for (const LayerAttribution& layer : report.layers)
      record.evaluation.insert(record.evaluation.end(), layer.scores.begin(), layer.scores.end());
    write_record(record_, record);
    console.text() << "\nrecord: " << record_.string() << '\n';
  }

  ExperimentArguments arguments_;
  std::string only_;
  bool by_layer_ = false, no_training_ = false;
  std::filesystem::path record_;
};

const CommandRegistration<Attribute> kAttribute(
    "attribute", "what each step of a conversion costs: partial RoPE, low rank, fine-tuning; layer by layer",
    {"mlaforge attribute configs/experiments/attribution_tinystories-656k.json --by-layer",
     "mlaforge attribute CONFIG --only d_kv=8 --no-training --output results/attribution.h5"});

}  // namespace
}  // namespace mla
