#include <unistd.h>

#include <algorithm>
#include <chrono>

#include "core/base/fields.h"
#include "core/base/file.h"
#include "core/base/interrupt.h"
#include "core/base/log.h"
#include "core/base/progress.h"
#include "experiments/cli/command.h"
#include "experiments/cli/log_file.h"
#include "experiments/cli/processes.h"
#include "experiments/commands/experiment_arguments.h"
#include "experiments/commands/run_provenance.h"
#include "experiments/sweep/estimate.h"
#include "experiments/sweep/plan_table.h"
#include "experiments/sweep/run_summary.h"
#include "experiments/sweep/status.h"
#include "experiments/sweep/sweep.h"
#include "experiments/sweep/workers.h"

namespace mla {
namespace {

/// Looking at the status reads every cell's record.
constexpr auto kStatusInterval = std::chrono::seconds(2);

/// Runs every cell of an experiment and leaves one record each. Cells whose record is complete are skipped; any number
/// of processes may run the same experiment.
class Run final : public Command {
 public:
  void declare(OptionList& options) override {
    experiment_.declare(options);
    options.flag("dry-run", dry_run_, "print the plan and stop");
    options.add("only", sweep_.only, "PATTERN", "only cells whose name matches the shell pattern, or contains it");
    options.add_count("max-cells", sweep_.limit, 0,
                      "run at most this many cells; finished ones are not counted; 0: all");
    options.renamed("limit", "max-cells");
    options.add_count("jobs", jobs_, 1, "local processes to work with, which share the threads");
    options.flag("fail-fast", sweep_.fail_fast, "stop at the first cell that fails");
    options.flag("retry-failed", sweep_.retry_failed, "run cells again that failed before");
    options.flag("force", sweep_.force, "run cells again whose record is complete");
    options.flag("worker", worker_,
                 "leave cells that other processes are working on to them, and end with the parent process");
    options.add("started", started_, "NS",
                "with --force or --retry-failed: results younger than this file time are kept");
  }

  bool shares_work() const override { return true; }

  ExitCode run(Console& console) override {
    install_interrupt_handler();
    ExperimentPlan plan = plan_experiment(experiment_.config, experiment_.overrides);
    select_cells(plan, sweep_.only);
    print_plan(plan, console.text());
    if (dry_run_) return describe(plan, console);
    const std::filesystem::path folder = plan.cells.front().record.parent_path();
    if (world().first()) make_results_folder(folder);
    std::optional<LogFile> log;
    if (world().first()) log.emplace(folder / "run.log", console.command_line());
    if (world().first()) sweep_.started = started_ ? file_time(*started_) : file_system_time(folder);
    sweep_.wait = !worker_;
    if (worker_) end_with_parent();
    Session session(plan.cells, sweep_.force ? sweep_.started : std::filesystem::file_time_type::min());
    if (!worker_ && world().first()) write_plan_file(plan, session);
    if (!worker_ && !console.quiet) say_how_long(plan, session, console);
    const Provenance provenance = provenance_of(console);
    try {
      if (jobs_ > 1) work_together(plan, folder, console);
      check_interrupt();
      const auto outcomes = run_sweep(plan, session, provenance, sweep_, console.text());
      return worker_ ? own_outcome(outcomes) : report(plan, outcomes, console);
    } catch (const Interrupted& stop) {
      throw Interrupted(cat(stop.what(), "; to go on: ", provenance.command_line));
    }
  }

 private:
  /// Says nothing when nothing is left to do: a look at a finished sweep should not load its models.
  void say_how_long(const ExperimentPlan& plan, Session& session, Console& console) const {
    const auto cells = unfinished_cells(plan, session, sweep_);
    if (!cells.empty()) print_estimate(estimate_cost(cells, session), console.text());
  }

  ExitCode describe(const ExperimentPlan& plan, Console& console) const {
    Session session(plan.cells);
    const CostEstimate estimate = estimate_cost(select_cells(plan, sweep_.only), session);
    print_estimate(estimate, console.text());
    Json report = plan_to_json(plan);
    report["estimate"] = mla::to_json(estimate);
    console.report(report);
    return ExitCode::kDone;
  }

  static std::filesystem::file_time_type file_time(std::int64_t nanoseconds) {
    return std::filesystem::file_time_type(std::filesystem::file_time_type::duration(nanoseconds));
  }

  /// Before any work: a folder that cannot be made or written would lose it all.
  static void make_results_folder(const std::filesystem::path& folder) {
    std::error_code error;
    std::filesystem::create_directories(folder, error);
    if (error) throw DataError(cat(folder.string(), ": the results folder cannot be made: ", error.message()));
    if (::access(folder.c_str(), W_OK) != 0)
      throw DataError(cat(folder.string(), ": the results folder cannot be written"));
  }

  /// The same command for a worker.
  std::vector<std::string> worker_arguments(const Console& console) const {
    std::vector<std::string> arguments = experiment_.words();
    arguments.insert(arguments.begin(), "run");
    arguments.insert(arguments.end(), {"--worker", "--quiet"});
    if (!sweep_.only.empty()) arguments.insert(arguments.end(), {"--only", sweep_.only});
    if (sweep_.fail_fast) arguments.emplace_back("--fail-fast");
    if (sweep_.retry_failed) arguments.emplace_back("--retry-failed");
    if (sweep_.force) arguments.emplace_back("--force");
    const auto started = sweep_.started.time_since_epoch().count();
    arguments.insert(arguments.end(), {"--started", cat(started)});
    arguments.insert(arguments.end(), {"--threads", cat(std::max<std::int64_t>(1, console.workers() / jobs_))});
    return arguments;
  }

  /// Lets workers do the cells, and shows how far they are.
  void work_together(const ExperimentPlan& plan, const std::filesystem::path& folder, const Console& console) const {
    if (world().size() > 1)
      throw ConfigError(
          "--jobs starts processes that work on different cells, mpirun ones that work on the same; take one of the "
          "two");
    if (sweep_.limit > 0)
      throw ConfigError("--max-cells counts the cells of one process; it cannot be had with --jobs");
    Progress bar("cells", static_cast<std::int64_t>(plan.cells.size()), "cells");
    auto shown = std::chrono::steady_clock::now();
    const auto show = [&] {
      if (std::chrono::steady_clock::now() - shown < kStatusInterval) return;
      show_status(folder, bar);
      shown = std::chrono::steady_clock::now();
    };
    const WorkerEnds ends = run_workers(jobs_, worker_arguments(console), folder / "logs", show);
    if (ends.killed + ends.failed > 0) {
      log_warning(
          cat(ends.killed + ends.failed, " of ", jobs_, " workers did not end well; this process does what they left"));
    }
  }

  /// A look that fails is no reason to leave the workers alone.
  static void show_status(const std::filesystem::path& folder, Progress& bar) {
    ExperimentStatus status;
    try {
      status = read_status(folder).front();
    } catch (const std::exception&) {
      return;
    }
    std::string running;
    std::int64_t done = 0;
    for (const CellStatus& cell : status.cells) {
      if (cell.state == CellState::kRunning) running += cat(running.empty() ? "" : "; ", cell.cell, ": ", cell.note);
      done +=
          cell.state == CellState::kComplete || cell.state == CellState::kDiverged || cell.state == CellState::kFailed;
    }
    bar.advance(done - bar.done(), running);
  }

  /// Whether all is well with the cells that this process ran, and that were there before it: others tell of theirs.
  ExitCode own_outcome(const std::vector<CellOutcome>& outcomes) const {
    const auto was_there = [&](const CellOutcome& outcome) {
      std::error_code error;
      return std::filesystem::last_write_time(outcome.cell->record, error) < sweep_.started;
    };
    const bool failed = std::any_of(outcomes.begin(), outcomes.end(), [&](const CellOutcome& outcome) {
      return outcome.lacks_model || (outcome.failed() && (outcome.made || was_there(outcome)));
    });
    return failed ? ExitCode::kCellsFailed : ExitCode::kDone;
  }

  static ExitCode report(const ExperimentPlan& plan, const std::vector<CellOutcome>& outcomes, Console& console) {
    std::size_t failed = 0, left = 0, unsaved = 0;
    Json cells = Json::array();
    std::vector<CellSummary> summaries;
    for (const CellOutcome& outcome : outcomes) {
      if (!outcome.record) {
        ++left;
        continue;
      }
      failed += outcome.failed();
      unsaved += outcome.lacks_model;
      cells.push_back(to_json(*outcome.cell, *outcome.record));
      summaries.push_back(summarize(*outcome.cell, *outcome.record));
    }
    print_summary(summaries, console.text());
    for (const CellOutcome& outcome : outcomes) {
      if (outcome.failed()) print_outcome(*outcome.cell, *outcome.record, console.text());
    }
    if (left > 0) console.text() << left << (left == 1 ? " cell is" : " cells are") << " still to run\n";
    console.report({{"experiment", plan.name},
                    {"cells", cells},
                    {"failed", failed},
                    {"left", left},
                    {"models_missing", unsaved},
                    {"skipped_invalid", plan.invalid.size()}});
    return failed + unsaved > 0 ? ExitCode::kCellsFailed : ExitCode::kDone;
  }

  static Json to_json(const CellPlan& cell, const RunRecord& record) {
    Json scores = Json::array();
    for (const ScoreRecord& score : record.evaluation) {
      Json entry = {{"stage", score.stage},
                    {"task", score.task},
                    {"metric", score.metric},
                    {"value", score.value},
                    {"n", score.n}};
      entry["standard_error"] = score.standard_error ? Json(*score.standard_error) : Json(nullptr);
      scores.push_back(entry);
    }
    Json result = {{"cell", cell.name},
                   {"record", cell.record.string()},
                   {"status", write_fields(record.head)["status"]},
                   {"message", record.head.message},
                   {"scores", scores}};
    result["cache_ratio"] = cell.cache_ratio();
    return result;
  }

  ExperimentArguments experiment_;
  SweepOptions sweep_;
  std::int64_t jobs_ = 1;
  std::optional<std::int64_t> started_;
  bool dry_run_ = false, worker_ = false;
};

const CommandRegistration<Run> kRun(
    "run", "run an experiment: convert, fine-tune, evaluate, one record per cell",
    {"mlaforge run configs/experiments/tinystories-656k.json",
     "mlaforge run configs/experiments/tinystories-656k.json --grid compress[0].low_rank.d_kv=2,4 --jobs 2",
     "mpirun -n 2 mlaforge run configs/experiments/tinystories-656k.json"});

}  // namespace
}  // namespace mla
