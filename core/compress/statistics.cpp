#include "core/compress/statistics.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "core/base/error.h"
#include "core/base/fields.h"
#include "core/base/hash.h"
#include "core/base/registry.h"

namespace mla {
namespace {

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

/// The rows as bytes, with where each one ends.
std::string hash_rows(const std::vector<std::vector<std::int32_t>>& rows) {
  std::string bytes;
  for (const auto& row : rows) {
    const auto length = static_cast<std::int64_t>(row.size());
    bytes.append(reinterpret_cast<const char*>(&length), sizeof(length));
    bytes.append(reinterpret_cast<const char*>(row.data()), row.size() * sizeof(std::int32_t));
  }
  return hash_bytes(bytes);
}

std::vector<std::vector<double>> to_rows(const at::Tensor& matrix) {
  const at::Tensor dense = matrix.to(at::kCPU).contiguous();
  std::vector<std::vector<double>> rows;
  for (std::int64_t i = 0; i < dense.size(0); ++i) {
    const double* begin = dense.const_data_ptr<double>() + i * dense.size(1);
    rows.emplace_back(begin, begin + dense.size(1));
  }
  return rows;
}

}  // namespace

std::string Requirement::name() const { return cat(detail::write_enum(tap), ".", reducer); }

at::Tensor Statistics::at(const Requirement& requirement, std::int64_t layer) const {
  const auto found = values.find({requirement, layer});
  if (found != values.end()) return found->second;
  expects(covers({requirement}), cat("calibration gathered ", requirement.name()));
  return {};
}

bool Statistics::covers(const Requirements& requirements) const {
  return std::all_of(requirements.begin(), requirements.end(), [&](const Requirement& requirement) {
    return std::any_of(values.begin(), values.end(),
                       [&](const auto& entry) { return entry.first.first == requirement; });
  });
}

PairNorms Statistics::pair_norms(std::int64_t layer) const {
  const at::Tensor query = at(kQueryPairNorms, layer), key = at(kKeyPairNorms, layer);
  if (!query.defined() || !key.defined()) return {};
  return {to_rows(query), to_rows(key)};
}

Statistics calibrate(const Decoder& decoder, const std::vector<std::vector<std::int32_t>>& rows,
                     const Requirements& requirements, const CalibrationOptions& options,
                     const std::function<void(std::int64_t)>& progress) {
  if (rows.empty()) throw DataError("calibration needs at least one row of tokens");
  const c10::InferenceMode inference;
  std::map<std::pair<Requirement, std::int64_t>, std::unique_ptr<Reducer>> reducers;
  Observer observer;
  for (const Requirement& requirement : requirements) {
    if (!observer.wants(requirement.tap)) observer.taps.push_back(requirement.tap);
  }
  observer.see = [&](Tap tap, std::int64_t layer, const at::Tensor& tensor) {
    for (const Requirement& requirement : requirements) {
      if (requirement.tap != tap) continue;
      std::unique_ptr<Reducer>& reducer = reducers[{requirement, layer}];
      if (!reducer) reducer = Registry<Reducer>::instance().make({{"name", requirement.reducer}}, "reducer");
      reducer->add(tensor);
    }
  };
  Statistics statistics;
  statistics.rows_hash = hash_rows(rows);
  for (const at::Tensor& ids : equal_length_batches(rows, decoder.spec().vocabulary, options.batch_tokens)) {
    decoder.observe(ids.to(decoder.device()), observer);
    statistics.tokens += ids.numel();
    if (progress) progress(ids.numel());
  }
  for (const auto& [key, reducer] : reducers) statistics.values[key] = reducer->result(statistics.tokens);
  return statistics;
}

}  // namespace mla
