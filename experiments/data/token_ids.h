// Rows of token ids as commands get them from files.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace mla {

using TokenIds = std::vector<std::vector<std::int32_t>>;

/// Throws DataError "<name>: ids[2][5] = 700: …" for an empty row and for an id outside 0 .. vocabulary - 1.
void expect_known_ids(const TokenIds& rows, std::int64_t vocabulary, const std::string& name);

/// Throws DataError "<where>[5] = 700: …" for the first id of a row outside 0 .. vocabulary - 1. `where` is made only
/// then.
void expect_known_row(const std::vector<std::int32_t>& row, std::int64_t vocabulary,
                      const std::function<std::string()>& where);

/// Rows of equal length as a tensor [rows, length], int64.
at::Tensor ids_tensor(const TokenIds& rows);

/// The rows of a .safetensors file: of tensor <name>_ids [rows, tokens], whose row i ends after <name>_len[i] tokens
/// where there is such a tensor. Throws DataError naming the file and what it lacks.
TokenIds read_tensor_rows(const std::filesystem::path& file, const std::string& name);

}  // namespace mla
