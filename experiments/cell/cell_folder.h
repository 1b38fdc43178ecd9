// Where the runs of a results folder keep what is not a result: claims, checkpoints, and which record a cell has.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "core/store/record.h"
#include "experiments/cell/claim.h"
#include "experiments/cell/training.h"

namespace mla {

/// What a cell's folder holds to go on from.
struct KeptProgress {
  std::int64_t steps = 0;   ///< of training, all stages
  std::uint64_t bytes = 0;  ///< of all its files
};

/// RESULTS/.cells/<content hash>: shared by all experiments of a results folder, so that a cell which two of them hold
/// is run once. Everything in it but the reference to the record and the metrics of its training is removed when the
/// cell has a result; a cell that failed keeps what a retry goes on from.
class CellFolder {
 public:
  CellFolder(const std::filesystem::path& results, const std::string& content_hash);

  /// From now on nothing is written to go on from once `claim`, which lives longer than this, is lost: TakenOver is
  /// thrown instead, and the successor's files stay as they are.
  void guard(const Claim& claim) { claim_ = &claim; }
  /// Throws TakenOver when the guarding claim is lost.
  void check_held() const;

  const std::filesystem::path& path() const { return path_; }

  /// The record that ended this cell, wherever its experiment keeps it; absent when there is none (any more).
  std::optional<std::filesystem::path> record() const;
  void remember_record(const std::filesystem::path& record) const;

  /// What a run has measured before training; absent when there is none that can be read.
  std::optional<RunRecord> partial_record() const;
  void keep_partial_record(RunRecord record) const;

  /// A stage's training state, by the stage's name (StagePlan::state); absent when there is none that can be read.
  std::optional<TrainingState> training_state(const std::string& stage) const;
  void keep_training_state(const std::string& stage, const TrainingState& state) const;

  /// The file with a line for each step of training (experiments/cell/metrics_file.h), there while it runs and after.
  std::filesystem::path metrics() const;

  /// Whether an earlier run left something to go on from.
  bool has_progress() const;
  /// The same as numbers. Looks into training states; one that cannot be read counts no steps.
  KeptProgress kept() const;
  /// When the last of it was written; absent when there is none.
  std::optional<std::filesystem::file_time_type> progress_time() const;
  /// Whether there is nothing here but the reference to a record, the metrics, and with `progress` what a retry goes on
  /// from.
  bool is_tidy(bool progress) const;

  /// One line on what is going on, for whoever watches; empty when there is none.
  std::string activity() const;
  void show_activity(const std::string& line) const;

  /// Nobody is at work here any more.
  void clear_activity() const;
  /// Removes everything that was kept for going on.
  void remove_progress() const;

 private:
  std::filesystem::path results_, path_;
  const Claim* claim_ = nullptr;
};

/// Keeps the state of a stage of training in a cell's folder, the last one too: what follows may fail.
class CellTraining final : public TrainingKeeper {
 public:
  CellTraining(const CellFolder& folder, std::string stage, double interval)
      : folder_(folder), stage_(std::move(stage)), interval_(interval) {}
  std::optional<TrainingState> load() override { return folder_.training_state(stage_); }
  void save(const TrainingState& state) override { folder_.keep_training_state(stage_, state); }
  double interval() const override { return interval_; }
  bool keeps_last() const override { return true; }

 private:
  const CellFolder& folder_;
  std::string stage_;
  double interval_;
};

}  // namespace mla
