#include "core/model/model_spec.h"
#include "experiments/cell/input_files.h"
#include "experiments/cli/command.h"
#include "experiments/cli/table.h"
#include "experiments/commands/experiment_arguments.h"
#include "experiments/sweep/estimate.h"
#include "experiments/sweep/plan_table.h"

namespace mla {
namespace {

std::string megabytes(double bytes) { return cat(rounded(bytes / 1e6, 3), " MB"); }

/// Bytes of a bfloat16 cache that is as long as the model's positions.
double whole_cache(const ModelSpec& source, const ModelSpec& model) {
  return 2.0 * static_cast<double>(cached_elements(model)) * static_cast<double>(source.max_positions);
}

/// Resolves and constructs everything a run needs, reads no weights, looks at every file, and prints plan and cost.
class Check final : public Command {
 public:
  void declare(OptionList& options) override {
    arguments_.declare(options);
    options.flag("no-estimate", no_estimate_, "leave out what it costs, for which texts are tokenized");
  }

  ExitCode run(Console& console) override {
    const ExperimentPlan plan = plan_experiment(arguments_.config, arguments_.overrides);
    print_plan(plan, console.text());
    Json report = plan_to_json(plan);
    report["files"] = check_files(plan, console);
    if (!no_estimate_) report["cost"] = cost(plan, console);
    console.report(report);
    return ExitCode::kDone;
  }

 private:
  static Json check_files(const ExperimentPlan& plan, Console& console) {
    std::vector<const ExperimentConfig*> configs;
    for (const CellPlan& cell : plan.cells) configs.push_back(&cell.options);
    const InputCheck check = check_input_files(configs);
    if (!check.faults.empty()) {
      std::string others;
      for (std::size_t i = 1; i < check.faults.size(); ++i) others += "; " + check.faults[i];
      throw DataError(check.faults.front() + others);
    }
    console.text() << "files: " << check.files << " can be read, " << megabytes(static_cast<double>(check.bytes))
                   << "\n";
    return {{"count", check.files}, {"bytes", check.bytes}};
  }

  static Json cost(const ExperimentPlan& plan, Console& console) {
    std::vector<const CellPlan*> cells;
    for (const CellPlan& cell : plan.cells) cells.push_back(&cell);
    const CostEstimate estimate = estimate_unloaded(cells);
    const DiskEstimate& disk = estimate.disk;
    const CellPlan& first = plan.cells.front();
    double least = whole_cache(first.spec, first.spec), most = 0;
    for (const CellPlan& cell : plan.cells) {
      least = std::min(least, whole_cache(cell.spec, cell.planned()));
      most = std::max(most, whole_cache(cell.spec, cell.planned()));
    }
    console.text() << "time: about " << describe_seconds(estimate.seconds)
                   << " in one process, by this machine's matrix products; decompositions not counted\n"
                   << "disk: about " << megabytes(disk.records + disk.models) << " that stay, "
                   << megabytes(disk.training_state) << " more while a cell trains\n"
                   << "cache at " << grouped(first.spec.max_positions) << " tokens (bfloat16): source "
                   << megabytes(whole_cache(first.spec, first.spec)) << ", cells " << megabytes(least) << " to "
                   << megabytes(most) << "\n";
    return {
        {"seconds", estimate.seconds},
        {"disk_bytes", {{"records", disk.records}, {"models", disk.models}, {"training_state", disk.training_state}}},
        {"cache_bytes",
         {{"tokens", first.spec.max_positions},
          {"source", whole_cache(first.spec, first.spec)},
          {"least", least},
          {"most", most}}}};
  }

  ExperimentArguments arguments_;
  bool no_estimate_ = false;
};

const CommandRegistration<Check> kCheck(
    "check", "resolve and check an experiment and its files, print its plan and what it costs",
    {"mlaforge check configs/experiments/tinystories-656k.json"});

}  // namespace
}  // namespace mla
