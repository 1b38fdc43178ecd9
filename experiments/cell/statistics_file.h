// Calibration statistics as one safetensors file.
#pragma once

#include <filesystem>

#include "core/compress/calibrate.h"

namespace mla {

/// Writes the pair norms of queries [layers, heads, head_dim / 2] and keys [layers, kv_heads, head_dim / 2], float64.
void write_statistics(const std::filesystem::path& path, const CalibrationStatistics& statistics);

/// Throws DataError for a file that is missing, damaged, or holds something else.
CalibrationStatistics read_statistics(const std::filesystem::path& path);

}  // namespace mla
