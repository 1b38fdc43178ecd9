#include "core/base/fields.h"
#include "experiments/cli/command.h"
#include "experiments/cli/table.h"
#include "experiments/sweep/status.h"

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
    cells.push_back({{"cell", cell.cell},
                     {"state", name_of(cell.state)},
                     {"note", cell.note},
                     {"kept_steps", cell.kept.steps},
                     {"kept_bytes", cell.kept.bytes}});
  }
  Json report = {{"experiment", experiment.experiment}, {"counts", counts}, {"cells", cells}};
  if (!experiment.problem.empty()) report["problem"] = experiment.problem;
  return report;
}

/// "kept to go on from: 120 steps, 3.41 MB"
std::string described(const KeptProgress& kept) {
  std::string text = "kept to go on from: ";
  if (kept.steps > 0) text += cat(kept.steps, kept.steps == 1 ? " step, " : " steps, ");
  return cat(text, rounded(static_cast<double>(kept.bytes) / 1e6, 3), " MB");
}

std::string note_of(const CellStatus& cell) {
  if (cell.kept.bytes == 0) return cell.note;
  return cat(cell.note, cell.note.empty() ? "" : "; ", described(cell.kept));
}

void print(const ExperimentStatus& experiment, std::ostream& out) {
  if (!experiment.problem.empty()) {
    out << experiment.experiment << ": its plan cannot be read: " << experiment.problem << "\n";
    return;
  }
  out << experiment.experiment << ": " << counted(experiment) << "\n";
  Table table({"cell", "state", ""});
  for (const CellStatus& cell : experiment.cells) table.add({cell.cell, name_of(cell.state), note_of(cell)});
  table.print(out);
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
      print(experiment, console.text());
      experiments.push_back(to_json(experiment));
    }
    Json forgotten = Json::array();
    for (const auto& [folder, kept] : forgotten_cells(results_)) {
      console.text() << "of a cell that is planned no more, in " << folder.string() << ": " << described(kept) << "\n";
      forgotten.push_back({{"folder", folder.string()}, {"kept_steps", kept.steps}, {"kept_bytes", kept.bytes}});
    }
    console.report({{"experiments", experiments}, {"forgotten", forgotten}});
    return ExitCode::kDone;
  }

 private:
  std::filesystem::path results_;
};

const CommandRegistration<Status> kStatus("status", "show which cells are complete, running, failed, damaged, pending",
                                          {"mlaforge status results",
                                           "mlaforge status results/tinystories-656k --json"});

}  // namespace
}  // namespace mla
