// Calibration text set aside, and how well a model predicts it: for choices that data make.
#pragma once

#include "core/compress/calibration/rows.h"
#include "core/model/decoder.h"

namespace mla {

/// Rows to measure on, and rows to choose by: every eighth one, and no more than `most_tokens` of these.
struct HeldOutRows {
  TokenRowList measured, held_out;
};

/// Throws DataError naming `path` where there are fewer than two rows.
HeldOutRows hold_out(const TokenRowList& rows, std::int64_t most_tokens, const std::string& path);

/// Mean of -log p over the tokens of the rows after the first of each, in nats; infinite where it is not a number.
double mean_nll(const Decoder& decoder, const TokenRowList& rows);

}  // namespace mla
