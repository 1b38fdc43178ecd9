#include <unistd.h>

#include "core/base/fields.h"
#include "core/base/interrupt.h"
#include "core/base/log.h"
#include "experiments/command.h"
#include "experiments/failure.h"
#include "experiments/plan_table.h"
#include "experiments/processes.h"
#include "experiments/run_cell.h"
#include "experiments/run_summary.h"

namespace mla {
namespace {

/// Runs every cell of an experiment and leaves one record each. Cells whose record is complete are skipped.
class Run final : public Command {
 public:
  void declare(OptionList& options) override {
    options.argument("config", config_, "CONFIG", "the experiment's JSON file");
    options.add("set", overrides_.set, "KEY=VALUE", "change a value of the config, for example train.steps=100; may be repeated");
    options.add("grid", overrides_.grid, "KEY=A,B,…", "run once for each value; may be repeated");
    options.flag("dry-run", dry_run_, "print the plan and stop");
    options.flag("force", force_, "run cells again whose record is complete");
  }

  bool shares_work() const override { return true; }

  ExitCode run(Console& console) override {
    install_interrupt_handler();
    for (const std::string& word : console.command_line()) command_ += (command_.empty() ? "" : " ") + word;
    ExperimentPlan plan = plan_experiment(config_, overrides_);
    print_plan(plan, console.text());
    if (dry_run_) {
      console.report(plan_to_json(plan));
      return ExitCode::kDone;
    }
    make_results_folder(plan.cells.front().record.parent_path());
    Session session(plan.cells);
    const Provenance provenance = provenance_of(console);
    std::size_t failed = 0;
    Json cells = Json::array();
    std::vector<CellSummary> summaries;
    for (const CellPlan& cell : plan.cells) {
      const RunRecord record = run_or_skip(cell, session, provenance);
      if (record.head.status == RunStatus::kFailed) ++failed;
      cells.push_back(to_json(cell, record));
      summaries.push_back(summarize(cell, record));
      print_outcome(cell, record, console.text());
    }
    print_summary(summaries, console.text());
    console.report({{"experiment", plan.name}, {"cells", cells}, {"failed", failed}});
    return failed > 0 ? ExitCode::kCellsFailed : ExitCode::kDone;
  }

 private:
  static Provenance provenance_of(const Console& console) {
    std::vector<const char*> arguments;
    for (const std::string& argument : console.command_line()) arguments.push_back(argument.c_str());
    return collect_provenance(static_cast<int>(arguments.size()), arguments.data());
  }

  /// Before any work: a folder that cannot be made or written would lose it all.
  static void make_results_folder(const std::filesystem::path& folder) {
    std::error_code error;
    std::filesystem::create_directories(folder, error);
    if (error) throw DataError(cat(folder.string(), ": the results folder cannot be made: ", error.message()));
    if (::access(folder.c_str(), W_OK) != 0) throw DataError(cat(folder.string(), ": the results folder cannot be written"));
  }

  /// Whether the cell's record is there and complete. Rank 0 looks: the others may see another disk.
  bool is_complete(const CellPlan& cell, Session& session) const {
    if (force_ || !world().first() || !std::filesystem::exists(cell.record)) return false;
    const RecordHead head = read_record_head(cell.record);
    return head.status != RunStatus::kFailed && head.content_hash == content_hash(cell, session);
  }

  RunRecord run_or_skip(const CellPlan& cell, Session& session, const Provenance& provenance) const {
    if (world().any(is_complete(cell, session))) {
      log_info(cat(cell.name, ": complete already"));
      return world().first() ? read_record(cell.record) : RunRecord{};
    }
    log_info(cat(cell.name, ": started"));
    try {
      RunRecord record = run_cell(cell, session, provenance);
      if (world().first()) write_record(cell.record, record);
      return record;
    } catch (const Interrupted&) {
      throw Interrupted(cat("stopped in cell ", cell.name, "; finished cells are kept; to go on: ", command_));
    } catch (const std::exception&) {
      // One cell's failure is its own; a record that cannot be written ends the run, since none could be.
      const Failure failure = current_failure();
      const auto tell = [&] { log_error(cat(cell.name, ": ", failure.message)); };
      RunRecord record = failed_record(cell, session, provenance, failure.message);
      if (tells_failure(world(), failure.code, tell)) {
        tell();
        write_record(cell.record, record);
      }
      return record;
    }
  }

  static Json to_json(const CellPlan& cell, const RunRecord& record) {
    Json scores = Json::array();
    for (const ScoreRecord& score : record.evaluation) {
      Json entry = {{"stage", score.stage}, {"task", score.task}, {"metric", score.metric}, {"value", score.value}, {"n", score.n}};
      entry["standard_error"] = score.standard_error ? Json(*score.standard_error) : Json(nullptr);
      scores.push_back(entry);
    }
    Json result = {{"cell", cell.name}, {"record", cell.record.string()}, {"status", write_fields(record.head)["status"]}, {"message", record.head.message}, {"scores", scores}};
    result["cache_ratio"] = cell.compression ? Json(cell.compression->cache_ratio()) : Json(1.0);
    return result;
  }

  std::filesystem::path config_;
  ConfigOverrides overrides_;
  std::string command_;  ///< as typed, for telling how to go on
  bool dry_run_ = false, force_ = false;
};

const CommandRegistration<Run> kRun("run", "run an experiment: convert, fine-tune, evaluate, one record per cell",
                                    {"mlaforge run configs/experiments/tinystories-656k.json",
                                     "mlaforge run configs/experiments/tinystories-656k.json --grid compress[0].low_rank.d_kv=2,4",
                                     "mpirun -n 2 mlaforge run configs/experiments/tinystories-656k.json"});

}  // namespace
}  // namespace mla
