// Calibration statistics as one safetensors file.
#pragma once

#include <filesystem>

#include "core/compress/calibration/statistics.h"

namespace mla {

/// Writes each statistic as a float64 tensor "LAYER.TAP.REDUCER" ("3.key.pair_norms"), beside the number of tokens and
/// the hash of the rows.
void write_statistics(const std::filesystem::path& path, const Statistics& statistics);

/// Throws DataError for a file that is missing, damaged, or holds something else.
Statistics read_statistics(const std::filesystem::path& path);

}  // namespace mla
