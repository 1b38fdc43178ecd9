// metrics.jsonl: the course of a cell's training, one line per step, while it runs and afterwards.
#pragma once

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/base/json.h"
#include "core/store/record.h"

namespace mla {

/// One line. Steps are numbered through all stages of training, as in the record.
struct StepMetrics {
  std::string stage;  ///< that is trained: fine_tuned, partial_rope, …
  std::int64_t step = 0, tokens = 0;
  double loss = 0, learning_rate = 0, gradient_norm = 0;
  std::optional<double> seconds = {};            ///< of the step; absent where its line was lost and made anew
  std::optional<double> tokens_per_second = {};  ///< of the step, likewise
  std::string time = {};                         ///< when it ended, ISO 8601, UTC
  Json evaluation = Json::object();  ///< task -> metric -> value, where the model was measured after the step
};

Json to_json(const StepMetrics& line);
/// Absent for a text that is no such line.
std::optional<StepMetrics> parse_metrics(const std::string& text);

/// The lines of steps 0, 1, 2, … up to the first that is missing, cut or no line; none where there is no file.
std::vector<StepMetrics> read_metrics(const std::filesystem::path& file);

/// The series of each score in the lines; units are left empty.
std::vector<TrainingScores> training_scores(const std::vector<StepMetrics>& lines);

/// A file that is written step by step. Each line is handed to the system at once, so that others see it.
class MetricsFile {
 public:
  /// A new file, beginning with `lines`. It takes the place of an earlier one at once, whole: a process that was
  /// thought dead goes on writing into that. Throws DataError when it cannot be written.
  MetricsFile(std::filesystem::path file, const std::vector<StepMetrics>& lines);

  /// Throws DataError, as on a full disk.
  void add(const StepMetrics& line);
  /// Waits until all lines are on the disk.
  void sync();

 private:
  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  std::filesystem::path path_;
  std::unique_ptr<std::FILE, Close> file_;
};

}  // namespace mla
