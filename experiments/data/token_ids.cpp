#include "experiments/data/token_ids.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "core/base/error.h"
#include "core/base/suggest.h"
#include "core/model/safetensors.h"

namespace mla {

void expect_known_ids(const TokenIds& rows, std::int64_t vocabulary, const std::string& name) {
  for (std::size_t row = 0; row < rows.size(); ++row) {
    if (rows[row].empty()) throw DataError(cat(name, ": ids[", row, "] is empty"));
    expect_known_row(rows[row], vocabulary, [&] { return cat(name, ": ids[", row, "]"); });
  }
}

void expect_known_row(const std::vector<std::int32_t>& row, std::int64_t vocabulary,
                      const std::function<std::string()>& where) {
  for (std::size_t i = 0; i < row.size(); ++i) {
    if (row[i] >= 0 && row[i] < vocabulary) continue;
    throw DataError(cat(where(), "[", i, "] = ", row[i], ": outside the model's vocabulary, 0..", vocabulary - 1));
  }
}

at::Tensor ids_tensor(const TokenIds& rows) {
  std::vector<at::Tensor> tensors;
  for (const auto& row : rows) tensors.push_back(at::tensor(row, at::kLong));
  return at::stack(tensors);
}

TokenIds read_tensor_rows(const std::filesystem::path& file, const std::string& name) {
  const WeightMap tensors = read_safetensors(file);
  const auto tensor = [&](const std::string& suffix, std::int64_t dimensions) {
    const auto found = tensors.find(name + suffix);
    if (found == tensors.end()) return at::Tensor();
    if (found->second.dim() != dimensions || !at::isIntegralType(found->second.scalar_type(), false)) {
      throw DataError(
          cat(file.string(), ": tensor ", name, suffix, ": expected integers in ", dimensions, " dimensions"));
    }
    return found->second.to(at::kLong).contiguous();
  };
  const at::Tensor ids = tensor("_ids", 2), lengths = tensor("_len", 1);
  if (!ids.defined()) {
    std::vector<std::string> names;
    for (const auto& [known, value] : tensors) {
      if (known.ends_with("_ids")) names.push_back(known.substr(0, known.size() - 4));
    }
    throw DataError(cat(file.string(), ": no tensor ", name, "_ids; \"tensors\" may be one of: ", join(names)));
  }
  if (lengths.defined() && lengths.size(0) != ids.size(0)) {
    throw DataError(cat(file.string(), ": ", name, "_len has ", lengths.size(0), " values for ", ids.size(0), " rows"));
  }
  TokenIds rows;
  const std::int64_t* values = ids.const_data_ptr<std::int64_t>();
  for (std::int64_t row = 0; row < ids.size(0); ++row) {
    const std::int64_t length = lengths.defined() ? lengths.const_data_ptr<std::int64_t>()[row] : ids.size(1);
    if (length < 1 || length > ids.size(1)) {
      throw DataError(cat(file.string(), ": ", name, "_len[", row, "] = ", length, ": outside 1..", ids.size(1)));
    }
    const std::int64_t *begin = values + row * ids.size(1), *end = begin + length;
    const std::int64_t* outside = std::find_if(begin, end, [](std::int64_t id) { return id < 0 || id > INT32_MAX; });
    if (outside != end) {
      throw DataError(cat(file.string(), ": ", name, "_ids[", row, "][", outside - begin, "] = ", *outside,
                          ": expected an id >= 0; what stands behind the tokens of a row is told by ", name, "_len"));
    }
    rows.emplace_back(begin, end);
  }
  return rows;
}

}  // namespace mla
