// Where the runs of a results folder keep what is not a result: claims, checkpoints, and which record a cell has.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "core/store/record.h"
#include "experiments/training.h"

namespace mla {

/// Training before the low-rank step, which has an end that the next stage begins with, and the last training.
enum class TrainingStage { kPartialRope, kLast };

/// RESULTS/.cells/<content hash>: shared by all experiments of a results folder, so that a cell which two of them hold
/// is run once. Everything in it but the reference to the record is removed when the cell ends.
class CellFolder {
 public:
  CellFolder(const std::filesystem::path& results, const std::string& content_hash);

  const std::filesystem::path& path() const { return path_; }

  /// The record that ended this cell, wherever its experiment keeps it; absent when there is none (any more).
  std::optional<std::filesystem::path> record() const;
  void remember_record(const std::filesystem::path& record) const;

  /// What a run has measured before training; absent when there is none that can be read.
  std::optional<RunRecord> partial_record() const;
  void keep_partial_record(RunRecord record) const;

  /// A stage's training state; absent when there is none that can be read.
  std::optional<TrainingState> training_state(TrainingStage stage) const;
  void keep_training_state(TrainingStage stage, const TrainingState& state) const;

  /// Whether an earlier run left something to go on from.
  bool has_progress() const;
  /// Whether there is nothing here but the reference to a record.
  bool is_tidy() const;

  /// One line on what is going on, for whoever watches; empty when there is none.
  std::string activity() const;
  void show_activity(const std::string& line) const;

  /// Removes everything that was kept for going on.
  void remove_progress() const;

 private:
  std::filesystem::path results_, path_;
};

/// Keeps the state of a stage of training in a cell's folder.
class CellTraining final : public TrainingKeeper {
 public:
  CellTraining(const CellFolder& folder, TrainingStage stage, double interval)
      : folder_(folder), stage_(stage), interval_(interval) {}
  std::optional<TrainingState> load() override { return folder_.training_state(stage_); }
  void save(const TrainingState& state) override { folder_.keep_training_state(stage_, state); }
  double interval() const override { return interval_; }
  bool keeps_last() const override { return stage_ == TrainingStage::kPartialRope; }

 private:
  const CellFolder& folder_;
  TrainingStage stage_;
  double interval_;
};

}  // namespace mla
