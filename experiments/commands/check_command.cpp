#include <algorithm>
#include <sstream>

#include "experiments/cli/command.h"
#include "experiments/commands/experiment_arguments.h"
#include "experiments/sweep/memory_estimate.h"
#include "experiments/sweep/plan_table.h"

namespace mla {
namespace {

/// "1,4,8". Throws ConfigError.
std::vector<std::int64_t> parse_ranks(const std::string& text) {
  std::vector<std::int64_t> ranks;
  std::stringstream parts(text);
  for (std::string part; std::getline(parts, part, ',');) {
    const bool digits = !part.empty() && part.size() <= 6 && part.find_first_not_of("0123456789") == part.npos;
    if (!digits || std::stol(part) < 1)
      throw ConfigError(cat("--ranks ", text, ": expected a number of processes, or several joined by commas"));
    ranks.push_back(std::stol(part));
  }
  if (ranks.empty()) throw ConfigError("--ranks: expected a number of processes, or several joined by commas");
  return ranks;
}

std::int64_t most_bytes(const PhaseEstimates& phases) {
  std::int64_t most = 0;
  for (const auto& [name, estimate] : phases) most = std::max(most, estimate.total());
  return most;
}

/// Resolves and constructs everything a run needs, reads no weights, and prints the plan.
class Check final : public Command {
 public:
  void declare(OptionList& options) override {
    arguments_.declare(options);
    options.flag("memory", memory_, "predict the memory of a process by item, for the cell that needs most");
    options.add("ranks", ranks_, "N,…", "--memory: processes that train together, each number in a column");
  }
  ExitCode run(Console& console) override {
    const std::vector<std::int64_t> ranks = parse_ranks(ranks_.value_or("1"));
    if (ranks_ && !memory_) throw ConfigError("--ranks: says for how many processes --memory predicts; add it");
    const ExperimentPlan plan = plan_experiment(arguments_.config, arguments_.overrides);
    print_plan(plan, console.text());
    Json report = plan_to_json(plan);
    if (memory_) report["memory"] = predict(plan, ranks, console);
    console.report(report);
    return ExitCode::kDone;
  }

 private:
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
  bool memory_ = false;
  std::optional<std::string> ranks_;
};

const CommandRegistration<Check> kCheck("check", "resolve and check an experiment, print its plan",
                                        {"mlaforge check configs/experiments/tinystories-656k.json",
                                         "mlaforge check configs/paper/llama2_7b.json --memory --ranks 1,8"});

}  // namespace
}  // namespace mla
