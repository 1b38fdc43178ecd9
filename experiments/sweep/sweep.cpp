#include "experiments/sweep/sweep.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <list>
#include <set>
#include <thread>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/interrupt.h"
#include "core/base/log.h"
#include "core/base/progress.h"
#include "core/base/shell.h"
#include "experiments/cell/claim.h"
#include "experiments/cell/identity.h"
#include "experiments/cli/failure.h"
#include "experiments/cli/processes.h"
#include "experiments/sweep/estimate.h"
#include "experiments/sweep/finished_records.h"
#include "experiments/sweep/run_summary.h"

namespace mla {
namespace {

using std::filesystem::path;

constexpr auto kPoll = std::chrono::milliseconds(300);

/// While it lives, progress of any kind is shown in the cell's folder too.
class ActivityShown {
 public:
  explicit ActivityShown(const CellFolder& folder) {
    if (world().first()) progress_style().listener = [&folder](const std::string& line) { folder.show_activity(line); };
  }
  ~ActivityShown() { progress_style().listener = nullptr; }
  ActivityShown(const ActivityShown&) = delete;
  ActivityShown& operator=(const ActivityShown&) = delete;
};

/// Whether nothing can be renamed to a record's name.
bool is_blocked(const path& record) {
  std::error_code error;
  return std::filesystem::is_directory(std::filesystem::symlink_status(record, error));
}

class Sweep {
 public:
  Sweep(const ExperimentPlan& plan, Session& session, const Provenance& provenance, const SweepOptions& options,
        std::ostream& text)
      : session_(session), provenance_(provenance), options_(options), text_(text), finished_(options) {
    for (const CellPlan* cell : select_cells(plan, options.only)) outcomes_.push_back({cell, {}});
    for (CellOutcome& outcome : outcomes_) {
      open_.push_back({&outcome, identify(*outcome.cell, session), decomposition_key(*outcome.cell)});
    }
  }

  std::vector<CellOutcome> run() {
    while (!open_.empty() && !stopped_) {
      const std::size_t before = open_.size();
      busy_.clear();
      open_.remove_if([&](const Open& open) { return !stopped_ && close(open); });
      const bool nothing_closed = open_.size() == before;
      if (nothing_closed && !yields_) {
        if (!options_.wait) break;
        wait();
      }
      yields_ = !nothing_closed;
    }
    return std::move(outcomes_);
  }

 private:
  /// A cell that something is left to be done about.
  struct Open {
    CellOutcome* outcome;
    CellIdentity identity;
    std::string decomposition;
  };

  /// What there is to do about a cell.
  enum class Task { kNothing, kRun, kLater };

  /// Decides, and claims what is to be run. Rank 0 does it for all: the others may see another disk.
  Task decide(const Open& open, const CellFolder& folder, std::unique_ptr<Claim>& claim) {
    CellOutcome& outcome = *open.outcome;
    if (is_blocked(outcome.cell->record)) return refuse(outcome);
    if (found(outcome, open.identity)) {
      tidy(folder, outcome.failed());
      save_late(outcome, folder, open.identity.hash);
      return Task::kNothing;
    }
    if (options_.limit > 0 && ran_ >= options_.limit) return Task::kNothing;
    if (yields_ && is_anothers(open.decomposition)) return Task::kLater;
    claim = Claim::attempt(folder.path());
    if (!claim) {
      busy_.insert(open.decomposition);
      say_waiting(outcome);
      return Task::kLater;
    }
    if (found(outcome, open.identity)) {  // it ended between the look and the claim
      save_late(outcome, folder, open.identity.hash);
      return Task::kNothing;
    }
    if (options_.force) begin_anew(outcome, folder, open.identity);
    decomposed_.insert(open.decomposition);
    remove_leftovers(folder.path());
    remove_leftovers(outcome.cell->record.parent_path(), outcome.cell->record.filename().string() + ".");
    return Task::kRun;
  }

  /// Whether another process is at work on cells of this decomposition, which this one has not made: it would be made
  /// twice, so that other cells come first.
  bool is_anothers(const std::string& decomposition) const {
    return !decomposition.empty() && busy_.contains(decomposition) && !decomposed_.contains(decomposition);
  }

  /// A cell whose record could not be written is not run at all. The others are.
  Task refuse(CellOutcome& outcome) {
    const std::string message = cat(outcome.cell->record.string(), ": the record cannot be written: a folder is there");
    log_error(cat(outcome.cell->name, ": not run: ", message));
    outcome.record = failed_record(*outcome.cell, session_, provenance_, message);
    stopped_ = options_.fail_fast;
    return Task::kNothing;
  }

  /// Removes what a process left that died between writing the record and releasing its claim.
  static void tidy(const CellFolder& folder, bool failed) {
    if (folder.is_tidy(failed)) return;
    if (const auto claim = Claim::attempt(folder.path())) {
      remove_leftovers(folder.path());
      forget(folder, failed);
    }
  }

  /// What is no longer needed of a cell that has ended.
  static void forget(const CellFolder& folder, bool failed) {
    if (failed) {
      folder.clear_activity();
    } else {
      folder.remove_progress();
    }
  }

  /// With --force, an attempt that failed is not gone on with. One that was interrupted since then is.
  static void begin_anew(const CellOutcome& outcome, const CellFolder& folder, const CellIdentity& identity) {
    const auto kept = folder.progress_time();
    if (!kept) return;
    const auto elsewhere = folder.record();
    for (const path& record : {outcome.cell->record, elsewhere.value_or(outcome.cell->record)}) {
      std::error_code error;
      if (holds_failure(record, identity) && std::filesystem::last_write_time(record, error) >= *kept && !error)
        return folder.remove_progress();
    }
  }

  /// The model of a cell that was finished without saving it: converted anew, or else said what would make it.
  void save_late(CellOutcome& outcome, const CellFolder& folder, const std::string& hash) {
    const CellPlan& cell = *outcome.cell;
    if (outcome.failed() || !lacks_model(cell, hash)) return;
    outcome.lacks_model = true;
    if (cell.trains()) {
      log_warning(cat(cell.name, ": complete already, but its model is not in ", model_folder(cell).string(),
                      " and its training state is gone; to train it again and save it: --force --only ",
                      shell_quoted(cell.name)));
      return;
    }
    try {
      save_converted_model(cell, session_, folder);
      outcome.lacks_model = false;
      log_info(cat(cell.name, ": its model is saved to ", model_folder(cell).string()));
    } catch (const Interrupted&) {
      throw;
    } catch (...) {
      log_error(cat(cell.name, ": its model cannot be saved: ", current_failure().message));
    }
  }

  /// Whether nothing is left to be done here about a cell.
  bool close(const Open& open) {
    check_interrupt();
    CellOutcome& outcome = *open.outcome;
    const CellPlan& cell = *outcome.cell;
    CellFolder folder(cell.options.results, open.identity.hash);
    std::unique_ptr<Claim> claim;
    const bool decides = world().first();
    const auto task =
        static_cast<Task>(std::lround(world().sum(decides ? static_cast<double>(decide(open, folder, claim)) : 0)));
    stopped_ = world().any(stopped_);
    if (task != Task::kRun) return task == Task::kNothing;
    if (claim) folder.guard(*claim);
    outcome.record = run_or_record_failure(cell, folder, claim.get());
    if (world().any(!outcome.record || (claim && claim->lost()))) {
      log_warning(cat(cell.name, ": another process took this cell over; its result is kept, not this one's"));
      outcome.record.reset();
      return false;
    }
    if (decides) keep(outcome, folder);
    outcome.made = true;
    ++ran_;
    stopped_ = world().any(options_.fail_fast && outcome.failed());
    print_outcome(cell, *outcome.record, text_);
    say_time_left();
    return true;
  }

  static void keep(const CellOutcome& outcome, const CellFolder& folder) {
    write_record(outcome.cell->record, *outcome.record);
    folder.remember_record(outcome.cell->record);
    forget(folder, outcome.failed());
  }

  bool found(CellOutcome& outcome, const CellIdentity& identity) {
    outcome.record = finished_.find(*outcome.cell, identity);
    if (!outcome.record) return false;
    const std::string& name = outcome.cell->name;
    if (outcome.failed()) {
      log_warning(cat(name, ": failed before (", outcome.record->head.message, "); --retry-failed runs it again"));
      stopped_ = options_.fail_fast;
    } else {
      log_info(cat(name, ": complete already", remark_on(*outcome.record, outcome.cell->record)));
    }
    return true;
  }

  /// Nothing when another process has taken the cell over. A failure of one process is one of all of them, and they
  /// are in step again when it is recorded.
  std::optional<RunRecord> run_or_record_failure(const CellPlan& cell, const CellFolder& folder, const Claim* claim) {
    log_info(cat(cell.name, ": started"));
    const ActivityShown shown(folder);
    std::optional<WatchTakeover> watch;
    if (claim != nullptr) watch.emplace(claim->known_lost());
    try {
      RunRecord record = run_cell(cell, session_, provenance_, folder);
      world().any(false);  // none of the others has failed
      return record;
    } catch (const TakenOver&) {
      share_failure(world(), current_failure(), false);
      return {};
    } catch (...) {
      // One cell's failure is its own.
      return record_failure(cell, current_failure());
    }
  }

  RunRecord record_failure(const CellPlan& cell, const Failure& own) {
    const SharedFailure failure = share_failure(world(), own, false);
    if (failure.code == ExitCode::kInterrupted) {
      throw Interrupted(cat("stopped in cell ", cell.name, "; finished cells are kept, this one goes on where it was"));
    }
    if (failure.ends && world().size() > 1) throw PeerFailed(failure.message);
    if (failure.tells) log_error(cat(cell.name, ": ", failure.message));
    return failed_record(cell, session_, provenance_, failure.message);
  }

  void say_waiting(const CellOutcome& outcome) {
    if (!options_.wait || said_waiting_) return;
    said_waiting_ = true;
    log_info(
        cat(outcome.cell->name, ": another process is working on it; the sweep goes on with the others, then waits"));
  }

  void say_time_left() const {
    const auto left =
        std::count_if(outcomes_.begin(), outcomes_.end(), [](const auto& outcome) { return !outcome.record; });
    if (left == 0 || options_.limit > 0) return;
    const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - start_;
    const double minutes = spent.count() / static_cast<double>(ran_) * static_cast<double>(left) / 60;
    log_info(cat(outcomes_.size() - static_cast<std::size_t>(left), " of ", outcomes_.size(), " cells done, about ",
                 std::max(1L, std::lround(minutes)), " min left at this rate"));
  }

  static void wait() {
    check_interrupt();
    std::this_thread::sleep_for(kPoll);
  }

  Session& session_;
  const Provenance& provenance_;
  const SweepOptions& options_;
  std::ostream& text_;
  std::vector<CellOutcome> outcomes_;
  std::list<Open> open_;
  FinishedRecords finished_;
  std::set<std::string> decomposed_, busy_;  // decompositions made here; those that cells claimed by others need
  bool yields_ = true;
  std::int64_t ran_ = 0;
  bool stopped_ = false, said_waiting_ = false;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace

std::vector<CellOutcome> run_sweep(const ExperimentPlan& plan, Session& session, const Provenance& provenance,
                                   const SweepOptions& options, std::ostream& text) {
  return Sweep(plan, session, provenance, options, text).run();
}

}  // namespace mla
