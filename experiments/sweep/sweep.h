// The cells of an experiment, run once each by however many processes work on them.
#pragma once

#include <filesystem>
#include <optional>
#include <ostream>
#include <string>
#include <vector>

#include "experiments/cell/run_cell.h"
#include "experiments/plan/plan.h"

namespace mla {

struct SweepOptions {
  std::string only;        ///< shell pattern, or part, of the names of the cells to run; empty: all
  std::int64_t limit = 0;  ///< cells to run at most, finished ones not counted; 0: all
  bool fail_fast = false;  ///< stop at the first failure
  bool wait = true;        ///< for cells that other processes are working on; else they are left to them

  /// Results older than this, by the results folder's clock, are made again: all of them, or those that failed.
  std::filesystem::file_time_type started = std::filesystem::file_time_type::min();
  bool force = false, retry_failed = false;
};

/// How one cell stands when the sweep is over.
struct CellOutcome {
  const CellPlan* cell = nullptr;
  std::optional<RunRecord> record;  ///< absent: not run (a limit, a failure before it, another process)
  bool made = false;                ///< by this process; else the record was there
  bool lacks_model = false;         ///< finished before, without the model that the config asks for

  bool failed() const { return record && record->head.status == RunStatus::kFailed; }
};

/// The cells that `only` names: the one of that name, or else all that it matches. Throws ConfigError when there is
/// none.
std::vector<const CellPlan*> select_cells(const ExperimentPlan& plan, const std::string& only);

/// Writes RESULTS/<experiment>/plan.json: every cell with its content hash, for `mlaforge status`.
void write_plan_file(const ExperimentPlan& plan, Session& session);

/// The selected cells without a result that stands.
std::vector<const CellPlan*> unfinished_cells(const ExperimentPlan& plan, Session& session,
                                              const SweepOptions& options);

/// Runs the plan's cells in order, each under a claim, and leaves one record each. A failing cell is recorded, what a
/// retry goes on from is kept, and the rest go on; so it is when one of several processes fails, whichever. Says on
/// `text` how each cell ended. Throws Interrupted after a signal, with everything worth keeping kept; DataError when a
/// record cannot be written.
std::vector<CellOutcome> run_sweep(const ExperimentPlan& plan, Session& session, const Provenance& provenance,
                                   const SweepOptions& options, std::ostream& text);

}  // namespace mla
