#include "experiments/token_ids.h"

#include <ATen/ATen.h>

#include "core/base/error.h"

namespace mla {

void expect_known_ids(const TokenIds& rows, std::int64_t vocabulary, const std::string& name) {
  for (std::size_t row = 0; row < rows.size(); ++row) {
    if (rows[row].empty()) throw DataError(cat(name, ": ids[", row, "] is empty"));
    for (std::size_t i = 0; i < rows[row].size(); ++i) {
      const std::int32_t id = rows[row][i];
      if (id >= 0 && id < vocabulary) continue;
      throw DataError(
          cat(name, ": ids[", row, "][", i, "] = ", id, ": outside the model's vocabulary, 0..", vocabulary - 1));
    }
  }
}

at::Tensor ids_tensor(const TokenIds& rows) {
  std::vector<at::Tensor> tensors;
  for (const auto& row : rows) tensors.push_back(at::tensor(row, at::kLong));
  return at::stack(tensors);
}

}  // namespace mla
