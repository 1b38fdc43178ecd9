// Matrices as blocks of small codes (GGUF's), sixteen rows side by side, as products read them.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace mla {

/// The kinds of blocks that products read; what they mean stands in ggml (ggml-common.h). A value is
/// (code - bias) * scale, or code * scale + least.
enum class BlockKind { kQ8_0, kQ4_0, kQ4_1, kQ4K, kQ6K };

/// Rows whose blocks lie interleaved: as many as a vector of AVX-512 has lanes.
constexpr std::int64_t kPanelRows = 16;
/// Columns that one scale serves in products; of Q6_K two scales.
constexpr std::int64_t kGroupColumns = 32;

struct BlockFormat {
  BlockKind kind;
  const char* name;          ///< as ggml spells it: "Q4_K"
  std::int64_t columns;      ///< of a block
  std::int64_t bytes;        ///< of a block of one row, in files
  std::int64_t panel_bytes;  ///< of a block of sixteen rows
  bool least;                ///< whether there is an addend beside the scale
};
/// Null for a name that is none of them.
const BlockFormat* find_block_format(const std::string& name);
/// All of them.
std::span<const BlockFormat> block_formats();
/// "Q8_0, Q4_0, …", for messages.
std::string block_format_names();

/// Blocks of a row of so many columns; a last one may be filled up with zeros.
std::int64_t blocks_of_row(const BlockFormat& format, std::int64_t columns);

/// uint8 [rows, blocks * bytes], rows of blocks as files have them, as panels: uint8 [ceil(rows / 16), blocks,
/// panel_bytes]. Missing rows of the last panel are zeros.
at::Tensor to_panels(const BlockFormat& format, const at::Tensor& blocks);

/// Rows of such panels in float32, [numbers, columns], by their numbers (int64, on the CPU); all `rows` where
/// undefined. The same numbers as ggml's definitions give.
at::Tensor decode_panels(const BlockFormat& format, const at::Tensor& panels, std::int64_t rows, std::int64_t columns,
                         const at::Tensor& numbers = {});

/// Whether all scales are finite.
bool has_finite_scales(const BlockFormat& format, const at::Tensor& panels);

}  // namespace mla
