// Rows of token ids as a calibration reads them.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

namespace mla {

using TokenRowList = std::vector<std::vector<std::int32_t>>;

/// How much work one step of calibration takes on.
struct CalibrationOptions {
  std::int64_t batch_tokens = 4096;  ///< tokens per forward pass; more need more memory
};

/// The rows as int64 batches [rows, length] of equal length each, so that no padding enters averages; shorter rows
/// first. Throws DataError for no rows, an empty row, or an id outside the vocabulary.
std::vector<at::Tensor> calibration_batches(const TokenRowList& rows, std::int64_t vocabulary,
                                            const CalibrationOptions& options);

/// The first `count` rows, or all: where there are fewer, and for 0.
TokenRowList first_rows(const TokenRowList& rows, std::int64_t count);

/// Stands for the rows: their ids, and where each one ends.
std::string hash_rows(const TokenRowList& rows);

}  // namespace mla
