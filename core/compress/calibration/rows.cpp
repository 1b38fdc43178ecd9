#include "core/compress/calibration/rows.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <map>

#include "core/base/error.h"
#include "core/base/hash.h"

namespace mla {
namespace {

void check_row(const std::vector<std::int32_t>& row, std::size_t index, std::int64_t vocabulary) {
  if (row.empty()) throw DataError(cat("calibration row ", index, " is empty"));
  for (const std::int32_t id : row) {
    if (id < 0 || id >= vocabulary) {
      throw DataError(
          cat("calibration row ", index, ": id ", id, " is outside the model's vocabulary of ", vocabulary));
    }
  }
}

}  // namespace

std::vector<at::Tensor> calibration_batches(const TokenRowList& rows, std::int64_t vocabulary,
                                            const CalibrationOptions& options) {
  if (rows.empty()) throw DataError("calibration needs at least one row of tokens");
  std::map<std::size_t, std::vector<const std::vector<std::int32_t>*>> by_length;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    check_row(rows[i], i, vocabulary);
    by_length[rows[i].size()].push_back(&rows[i]);
  }
  std::vector<at::Tensor> batches;
  for (const auto& [length, members] : by_length) {
    const std::size_t most = std::max<std::size_t>(1, static_cast<std::size_t>(options.batch_tokens) / length);
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

TokenRowList first_rows(const TokenRowList& rows, std::int64_t count) {
  const bool all = count == 0 || count >= std::ssize(rows);
  return {rows.begin(), all ? rows.end() : rows.begin() + count};
}

std::string hash_rows(const TokenRowList& rows) {
  std::string bytes;
  for (const auto& row : rows) {
    const auto length = static_cast<std::int64_t>(row.size());
    bytes.append(reinterpret_cast<const char*>(&length), sizeof(length));
    bytes.append(reinterpret_cast<const char*>(row.data()), row.size() * sizeof(std::int32_t));
  }
  return hash_bytes(bytes);
}

}  // namespace mla
