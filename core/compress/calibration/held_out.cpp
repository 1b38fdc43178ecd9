#include "core/compress/calibration/held_out.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/base/error.h"
#include "core/ops/softmax_loss.h"

namespace mla {
namespace {

constexpr std::size_t kEvery = 8;

}  // namespace

HeldOutRows hold_out(const TokenRowList& rows, std::int64_t most_tokens, const std::string& path) {
  if (rows.size() < 2)
    throw DataError(cat(path, ": chosen on calibration rows that are held out; at least 2 rows are needed, found ",
                        rows.size(), "; state collapse and fold, or give more calibration text"));
  HeldOutRows all;
  // Of few rows the last one; of many every eighth.
  const std::size_t every = std::min(kEvery, rows.size());
  std::int64_t tokens = 0;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const bool held = i % every == every - 1 && tokens < most_tokens;
    (held ? all.held_out : all.measured).push_back(rows[i]);
    if (held) tokens += std::ssize(rows[i]);
  }
  return all;
}

double mean_nll(const Decoder& decoder, const TokenRowList& rows) {
  const at::NoGradGuard off;
  double sum = 0;
  std::int64_t count = 0;
  for (const at::Tensor& batch : calibration_batches(rows, decoder.spec().vocabulary, {})) {
    if (batch.size(1) < 2) continue;
    const at::Tensor ids = batch.to(decoder.device());
    const at::Tensor states = decoder.hidden_states(ids);
    for (std::int64_t row = 0; row < ids.size(0); ++row) {  // logits of one row at a time: vocabularies are large
      const std::int64_t predicted = ids.size(1) - 1;
      const at::Tensor logits = decoder.logits(states[row].narrow(0, 0, predicted));
      sum += softmax_nll(logits, ids[row].narrow(0, 1, predicted).contiguous()).sum(at::kDouble).item<double>();
      count += predicted;
    }
  }
  expects(count > 0, "held-out rows have tokens to predict");
  const double mean = sum / static_cast<double>(count);
  return std::isfinite(mean) ? mean : std::numeric_limits<double>::infinity();
}

}  // namespace mla
