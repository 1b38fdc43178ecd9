#include <algorithm>

#include "core/model/model_spec.h"
#include "experiments/cell/input_files.h"
#include "experiments/cli/comma_list.h"
#include "experiments/cli/command.h"
#include "experiments/cli/table.h"
#include "experiments/commands/experiment_arguments.h"
#include "experiments/sweep/estimate.h"
#include "experiments/sweep/memory_estimate.h"
#include "experiments/sweep/plan_table.h"

namespace mla {
namespace {

constexpr std::int64_t kMostRanks = 999'999;

std::int64_t most_bytes(const PhaseEstimates& phases) {
  std::int64_t most = 0;
  for (const auto& [name, estimate] : phases) most = std::max(most, estimate.total());
  return most;
}

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
    options.flag("memory", memory_,
                 "predict the memory of a process by item, for the cell that needs most; "
                 "files are not opened then");
    options.add("ranks", ranks_, "N,…", "--memory: processes that train together, each number in a column");
  }

  ExitCode run(Console& console) override {
    const std::vector<std::int64_t> ranks = whole_numbers(ranks_.value_or("1"), "--ranks", 1, kMostRanks);
    if (ranks_ && !memory_) throw ConfigError("--ranks: says for how many processes --memory predicts; add it");
    const ExperimentPlan plan = plan_experiment(arguments_.config, arguments_.overrides);
    print_plan(plan, console.text());
    Json report = plan_to_json(plan);
    if (memory_) {
      report["memory"] = predict(plan, ranks, console);
    } else {
      report["files"] = check_files(plan, console);
      if (!no_estimate_) report["cost"] = cost(plan, console);
    }
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

  static Json predict(const ExperimentPlan& plan, const std::vector<std::int64_t>& ranks, Console& console) {
    const CellPlan* cell = nullptr;
    std::vector<PhaseEstimates> by_ranks(1);
    for (const CellPlan& one : plan.cells) {
      PhaseEstimates phases = estimate_memory(one, ranks.front());
      if (cell != nullptr && most_bytes(phases) <= most_bytes(by_ranks.front())) continue;
      cell = &one;
      by_ranks.front() = std::move(phases);
    }
    if (cell == nullptr || by_ranks.front().empty()) {
      console.text() << "memory: nothing is calibrated or trained\n";
      return Json::array();
    }
    for (std::size_t i = 1; i < ranks.size(); ++i) by_ranks.push_back(estimate_memory(*cell, ranks[i]));
    console.text() << "memory of cell " << cell->name << ":\n";
    print_memory(by_ranks, console.text());
    Json all = Json::array();
    for (const PhaseEstimates& phases : by_ranks) {
      for (const auto& [name, estimate] : phases) {
        Json entry = to_json(estimate);
        entry["cell"] = cell->name;
        entry["phase"] = name;
        all.push_back(entry);
      }
    }
    return all;
  }

  ExperimentArguments arguments_;
  bool no_estimate_ = false, memory_ = false;
  std::optional<std::string> ranks_;
};

const CommandRegistration<Check> kCheck(
    "check", "resolve and check an experiment and its files, print its plan and what it costs",
    {"mlaforge check configs/experiments/tinystories-656k.json",
     "mlaforge check configs/paper/llama2_7b.json --memory --ranks 1,8"});

}  // namespace
}  // namespace mla
