// Rows of token ids as commands get them from files.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

namespace mla {

using TokenIds = std::vector<std::vector<std::int32_t>>;

/// Throws DataError "<name>: ids[2][5] = 700: …" for an empty row and for an id outside 0 .. vocabulary - 1.
void expect_known_ids(const TokenIds& rows, std::int64_t vocabulary, const std::string& name);

/// Rows of equal length as a tensor [rows, length], int64.
at::Tensor ids_tensor(const TokenIds& rows);

}  // namespace mla
