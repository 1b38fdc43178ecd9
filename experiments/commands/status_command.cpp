#include <sys/ioctl.h>
#include <unistd.h>

#include <chrono>
#include <sstream>
#include <thread>

#include "core/base/fields.h"
#include "core/base/interrupt.h"
#include "core/base/provenance.h"
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
    if (!cell.training) continue;
    cells.back()["training"] = mla::to_json(cell.training->last);
    cells.back()["training"]["losses"] = cell.training->losses;
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

/// "▇▅▃▂▁ 2.31 at step 120, 3400 tokens/s"
std::string course_of(const CellStatus& cell) {
  if (!cell.training) return {};
  const StepMetrics& last = cell.training->last;
  std::string text = cat(sparkline(cell.training->losses), " ", rounded(last.loss, 4), " at step ", last.step);
  if (last.tokens_per_second && cell.state == CellState::kRunning)
    text += cat(", ", rounded(*last.tokens_per_second, 3), " tokens/s");
  return text;
}

void print(const ExperimentStatus& experiment, bool courses, std::ostream& out) {
  if (!experiment.problem.empty()) {
    out << experiment.experiment << ": its plan cannot be read: " << experiment.problem << "\n";
    return;
  }
  out << experiment.experiment << ": " << counted(experiment) << "\n";
  Table table(courses ? std::vector<std::string>{"cell", "state", "loss", ""}
                      : std::vector<std::string>{"cell", "state", ""});
  for (const CellStatus& cell : experiment.cells) {
    std::vector<std::string> row = {cell.cell, name_of(cell.state), note_of(cell)};
    if (courses) row.insert(row.begin() + 2, course_of(cell));
    table.add(row);
  }
  table.print(out);
}

/// Puts a text in the place of what a terminal shows, as far as it has rows, without the flicker of an empty screen.
void redraw(const std::string& text, std::ostream& out) {
  winsize size{};
  const bool known = ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > 1;
  std::size_t rows = known ? size.ws_row - 1U : std::string::npos;
  std::istringstream lines(text);
  out << "\033[H";
  for (std::string line; rows > 0 && std::getline(lines, line); --rows) out << line << "\033[K\n";
  out << "\033[J" << std::flush;
}

/// Shows how far runs are, whichever processes on whichever machines work on them.
class Status final : public Command {
 public:
  void declare(OptionList& options) override {
    options.argument("results", results_, "RESULTS", "a results folder, or one experiment's folder in it");
    options.add_optional_number("watch", watch_, kUsualInterval, "[SECONDS]",
                                "show it again and again, with the course of each training's loss, until Ctrl-C");
  }

  ExitCode run(Console& console) override {
    if (!watch_) return show(console, console.text());
    if (!(*watch_ > 0)) throw ConfigError(cat("--watch = ", *watch_, ": expected seconds above 0"));
    install_interrupt_handler();
    const bool terminal = !console.json && ::isatty(STDOUT_FILENO) == 1;
    if (terminal) console.text() << "\033[2J";
    while (true) {
      std::ostringstream text;
      text << results_.string() << " at " << utc_now() << ", every " << *watch_ << " s; Ctrl-C ends\n";
      show(console, text);
      if (terminal) {
        redraw(text.str(), console.text());
      } else {
        console.text() << text.str() << std::endl;
      }
      console.out().flush();
      wait();
    }
  }

 private:
  static constexpr double kUsualInterval = 2;
  /// Of a course of losses: as many as fit beside the rest.
  static constexpr std::size_t kPoints = 24;

  ExitCode show(Console& console, std::ostream& out) const {
    Json experiments = Json::array();
    for (const ExperimentStatus& experiment : read_status(results_, kPoints)) {
      print(experiment, watch_.has_value(), out);
      experiments.push_back(to_json(experiment));
    }
    Json forgotten = Json::array();
    for (const auto& [folder, kept] : forgotten_cells(results_)) {
      out << "of a cell that is planned no more, in " << folder.string() << ": " << described(kept) << "\n";
      forgotten.push_back({{"folder", folder.string()}, {"kept_steps", kept.steps}, {"kept_bytes", kept.bytes}});
    }
    console.report({{"experiments", experiments}, {"forgotten", forgotten}});
    return ExitCode::kDone;
  }

  /// Throws Interrupted after a signal.
  void wait() const {
    const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(*watch_);
    while (std::chrono::steady_clock::now() < end) {
      check_interrupt();
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    check_interrupt();
  }

  std::filesystem::path results_;
  std::optional<double> watch_;
};

const CommandRegistration<Status> kStatus("status", "show which cells are complete, running, failed, damaged, pending",
                                          {"mlaforge status results", "mlaforge status results/tinystories-656k --json",
                                           "mlaforge status results --watch 5"});

}  // namespace
}  // namespace mla
