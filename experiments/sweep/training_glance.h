// The course of a cell's training at a glance, from some lines of a file that may be long.
#pragma once

#include <cstddef>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "experiments/cell/metrics_file.h"

namespace mla {

struct TrainingGlance {
  StepMetrics last;            ///< the last whole line
  std::vector<double> losses;  ///< of lines at even distances, the first and the last among them
};

/// Reads the end of a metrics file and at most `points` short pieces of it, however long it is; nothing where there is
/// no line.
std::optional<TrainingGlance> glance_at(const std::filesystem::path& metrics, std::size_t points);

/// Values as bars of eight heights, "▇▅▃▂▁"; the lowest stands for the smallest. What is not finite is "×".
std::string sparkline(const std::vector<double>& values);

}  // namespace mla
