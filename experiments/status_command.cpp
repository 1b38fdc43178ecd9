#include "core/base/fields.h"
#include "experiments/command.h"
#include "experiments/sweep/status.h"
#include "experiments/table.h"

namespace mla {
namespace {

std::string name_of(CellState state) { return write_fields(state).get<std::string>(); }

/// "3 complete, 1 running, 4 pending"
std::string counted(const ExperimentStatus& experiment) {
  std::string text;
  for (const auto& [state, count] : experiment.counts())
    text += cat(text.empty() ? "" : ", ", count, " ", name_of(state));
  return text;
}

Json to_json(const ExperimentStatus& experiment) {
  Json counts = Json::object(), cells = Json::array();
  for (const auto& [name, state] : enum_names(CellState())) counts[name] = 0;
  for (const auto& [state, count] : experiment.counts()) counts[name_of(state)] = count;
  for (const CellStatus& cell : experiment.cells) {
    cells.push_back({{"cell", cell.cell}, {"state", name_of(cell.state)}, {"note", cell.note}});
  }
  return {{"experiment", experiment.experiment}, {"counts", counts}, {"cells", cells}};
}

/// Shows how far runs are, whichever processes on whichever machines work on them.
class Status final : public Command {
 public:
  void declare(OptionList& options) override {
    options.argument("results", results_, "RESULTS", "a results folder, or one experiment's folder in it");
  }
  ExitCode run(Console& console) override {
    Json experiments = Json::array();
    for (const ExperimentStatus& experiment : read_status(results_)) {
      console.text() << experiment.experiment << ": " << counted(experiment) << "\n";
      Table table({"cell", "state", ""});
      for (const CellStatus& cell : experiment.cells) table.add({cell.cell, name_of(cell.state), cell.note});
      table.print(console.text());
      experiments.push_back(to_json(experiment));
    }
    console.report({{"experiments", experiments}});
    return ExitCode::kDone;
  }

 private:
  std::filesystem::path results_;
};

const CommandRegistration<Status> kStatus("status", "show which cells are complete, running, failed, pending",
                                          {"mlaforge status results",
                                           "mlaforge status results/tinystories-656k --json"});

}  // namespace
}  // namespace mla
