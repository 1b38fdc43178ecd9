#include "core/compress/calibrate.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <map>

#include "core/base/error.h"

namespace mla {
namespace {

/// Sums of pair norms of one layer, float64 [heads, head_dim / 2].
struct NormSums {
  at::Tensor query, key;
};

/// Sum over batch and tokens of the norms of pairs (k, k + width / 2) of x [batch, heads, length, width].
at::Tensor summed_pair_norms(const at::Tensor& x) {
  const std::int64_t half = x.size(3) / 2;
  const at::Tensor first = x.narrow(3, 0, half), second = x.narrow(3, half, half);
  return (first * first + second * second).sqrt_().sum(at::IntArrayRef({0, 2}), false, at::kDouble);
}

void add_to(at::Tensor& sum, const at::Tensor& term) { sum = sum.defined() ? sum + term : term; }

std::vector<std::vector<double>> to_rows(const at::Tensor& matrix) {
  const at::Tensor dense = matrix.contiguous();
  std::vector<std::vector<double>> rows;
  for (std::int64_t i = 0; i < dense.size(0); ++i) {
    const double* begin = dense.const_data_ptr<double>() + i * dense.size(1);
    rows.emplace_back(begin, begin + dense.size(1));
  }
  return rows;
}

/// Batches of rows of equal length, so that no padding enters the averages.
std::vector<at::Tensor> equal_length_batches(const std::vector<std::vector<std::int32_t>>& rows,
                                             std::int64_t vocabulary, std::int64_t batch_tokens) {
  std::map<std::size_t, std::vector<const std::vector<std::int32_t>*>> by_length;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (rows[i].empty()) throw DataError(cat("calibration row ", i, " is empty"));
    for (const std::int32_t id : rows[i]) {
      if (id < 0 || id >= vocabulary) {
        throw DataError(cat("calibration row ", i, ": id ", id, " is outside the model's vocabulary of ", vocabulary));
      }
    }
    by_length[rows[i].size()].push_back(&rows[i]);
  }
  std::vector<at::Tensor> batches;
  for (const auto& [length, members] : by_length) {
    const std::size_t most = std::max<std::size_t>(1, static_cast<std::size_t>(batch_tokens) / length);
    for (std::size_t begin = 0; begin < members.size(); begin += most) {
      const std::size_t count = std::min(most, members.size() - begin);
      at::Tensor batch = at::empty({static_cast<std::int64_t>(count), static_cast<std::int64_t>(length)}, at::kLong);
      std::int64_t* out = batch.mutable_data_ptr<std::int64_t>();
      for (std::size_t i = begin; i < begin + count; ++i) out = std::copy(members[i]->begin(), members[i]->end(), out);
      batches.push_back(std::move(batch));
    }
  }
  return batches;
}

}  // namespace

CalibrationStatistics calibrate(const Decoder& decoder, const std::vector<std::vector<std::int32_t>>& rows,
                                const CalibrationOptions& options, const std::function<void(std::int64_t)>& progress) {
  if (rows.empty()) throw DataError("calibration needs at least one row of tokens");
  const c10::InferenceMode inference;
  std::vector<NormSums> sums(decoder.layers.size());
  const Observer observer{{Tap::kQuery, Tap::kKey}, [&](Tap tap, std::int64_t layer, const at::Tensor& heads) {
                            NormSums& sum = sums[static_cast<std::size_t>(layer)];
                            add_to(tap == Tap::kQuery ? sum.query : sum.key, summed_pair_norms(heads));
                          }};
  CalibrationStatistics statistics;
  for (const at::Tensor& ids : equal_length_batches(rows, decoder.spec().vocabulary, options.batch_tokens)) {
    decoder.observe(ids, observer);
    statistics.tokens += ids.numel();
    if (progress) progress(ids.numel());
  }
  const double count = static_cast<double>(statistics.tokens);
  for (const NormSums& sum : sums) {
    statistics.layers.push_back(sum.query.defined() ? PairNorms{to_rows(sum.query / count), to_rows(sum.key / count)}
                                                    : PairNorms{});
  }
  return statistics;
}

}  // namespace mla
