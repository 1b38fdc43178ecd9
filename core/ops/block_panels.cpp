#include "core/ops/block_panels.h"

#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <c10/util/Half.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>

#include "core/base/error.h"
#include "core/ops/panel_layout.h"

namespace mla {
namespace {

constexpr std::array<BlockFormat, 5> kFormats = {
    {{BlockKind::kQ8_0, "Q8_0", 32, 34, kPanelBytes<BlockKind::kQ8_0>, false},
     {BlockKind::kQ4_0, "Q4_0", 32, 18, kPanelBytes<BlockKind::kQ4_0>, false},
     {BlockKind::kQ4_1, "Q4_1", 32, 20, kPanelBytes<BlockKind::kQ4_1>, true},
     {BlockKind::kQ4K, "Q4_K", 256, 144, kPanelBytes<BlockKind::kQ4K>, true},
     {BlockKind::kQ6K, "Q6_K", 256, 210, kPanelBytes<BlockKind::kQ6K>, false}}};

constexpr int kQuadColumns = 4;

/// The 32 codes of a group of one row.
using GroupCodes = std::array<std::uint8_t, kGroupColumns>;

void put_codes(int bits, const GroupCodes& codes, std::int64_t row, std::uint8_t* to) {
  for (int c = 0; c < kGroupColumns; ++c) {
    const int quad = c / kQuadColumns;
    const std::int64_t lane = kQuadColumns * row + c % kQuadColumns;
    if (bits == 8) {
      to[64 * quad + lane] = codes[c];
      continue;
    }
    std::uint8_t& both = to[64 * (quad % 4) + lane];
    both = static_cast<std::uint8_t>(both | (codes[c] & 15) << (quad < 4 ? 0 : 4));
    if (bits == 6) {
      std::uint8_t& pairs = to[256 + 64 * (quad % 2) + lane];
      pairs = static_cast<std::uint8_t>(pairs | (codes[c] >> 4) << (2 * (quad / 2)));
    }
  }
}

template <int BITS>
GroupCodes taken_codes(const std::uint8_t* from, std::int64_t row) {
  GroupCodes codes;
  for (int c = 0; c < kGroupColumns; ++c) {
    const int quad = c / kQuadColumns;
    const std::int64_t lane = kQuadColumns * row + c % kQuadColumns;
    if constexpr (BITS == 8) {
      codes[c] = from[64 * quad + lane];
    } else {
      int code = from[64 * (quad % 4) + lane] >> (quad < 4 ? 0 : 4) & 15;
      if constexpr (BITS == 6) code |= (from[256 + 64 * (quad % 2) + lane] >> (2 * (quad / 2)) & 3) << 4;
      codes[c] = static_cast<std::uint8_t>(code);
    }
  }
  return codes;
}

/// Byte `index` of each group of 16 rows at `offset` of a panel.
std::uint8_t& byte_of(std::uint8_t* panel, std::int64_t offset, std::int64_t index, std::int64_t row) {
  return panel[offset + kPanelRows * index + row];
}
void put_half(const std::uint8_t* from, std::int64_t offset, std::int64_t row, std::uint8_t* panel) {
  std::memcpy(panel + offset + 2 * row, from, 2);
}
float half_of(const std::uint8_t* panel, std::int64_t offset, std::int64_t row) {
  c10::Half half;
  std::memcpy(&half, panel + offset + 2 * row, 2);
  return static_cast<float>(half);
}

/// Nibbles of sixteen bytes: the low ones first.
GroupCodes nibbles(const std::uint8_t* quants) {
  GroupCodes codes;
  for (int i = 0; i < 16; ++i) {
    codes[i] = quants[i] & 15;
    codes[i + 16] = quants[i] >> 4;
  }
  return codes;
}

/// Factors of group g in Q4_K: six bits each, of which those of the last four groups have their upper two in the bytes
/// of the first ones.
std::uint8_t scale_of_six(const std::uint8_t* packed, int g) {
  if (g < 4) return packed[g] & 63;
  return static_cast<std::uint8_t>((packed[g + 4] & 15) | (packed[g - 4] >> 6) << 4);
}
std::uint8_t least_of_six(const std::uint8_t* packed, int g) {
  if (g < 4) return packed[g + 4] & 63;
  return static_cast<std::uint8_t>(packed[g + 4] >> 4 | (packed[g] >> 6) << 4);
}

/// One block of one row, as files have it, into a panel of zeros.
void put_q8_0(const std::uint8_t* block, std::int64_t row, std::uint8_t* panel) {
  put_half(block, 0, row, panel);
  GroupCodes codes;
  for (int i = 0; i < kGroupColumns; ++i) codes[i] = block[2 + i] ^ 0x80;
  put_codes(8, codes, row, panel + PanelLayout<BlockKind::kQ8_0>::kCodes);
}
void put_q4_0(const std::uint8_t* block, std::int64_t row, std::uint8_t* panel) {
  put_half(block, 0, row, panel);
  put_codes(4, nibbles(block + 2), row, panel + PanelLayout<BlockKind::kQ4_0>::kCodes);
}
void put_q4_1(const std::uint8_t* block, std::int64_t row, std::uint8_t* panel) {
  using Layout = PanelLayout<BlockKind::kQ4_1>;
  put_half(block, Layout::kScale, row, panel);
  put_half(block + 2, Layout::kLeastAt, row, panel);
  put_codes(4, nibbles(block + 4), row, panel + Layout::kCodes);
}
void put_q4_k(const std::uint8_t* block, std::int64_t row, std::uint8_t* panel) {
  using Layout = PanelLayout<BlockKind::kQ4K>;
  put_half(block, Layout::kScale, row, panel);
  put_half(block + 2, Layout::kLeastAt, row, panel);
  for (int g = 0; g < Layout::kGroups; ++g) {
    byte_of(panel, Layout::kFactors, g, row) = scale_of_six(block + 4, g);
    byte_of(panel, Layout::kLeastFactors, g, row) = least_of_six(block + 4, g);
    GroupCodes codes;
    for (int i = 0; i < kGroupColumns; ++i) codes[i] = block[16 + 32 * (g / 2) + i] >> (4 * (g % 2)) & 15;
    put_codes(4, codes, row, panel + Layout::kCodes + g * Layout::kGroupBytes);
  }
}
void put_q6_k(const std::uint8_t* block, std::int64_t row, std::uint8_t* panel) {
  using Layout = PanelLayout<BlockKind::kQ6K>;
  put_half(block + 208, Layout::kScale, row, panel);
  for (int s = 0; s < 16; ++s) byte_of(panel, Layout::kFactors, s, row) = block[192 + s];
  for (int g = 0; g < Layout::kGroups; ++g) {
    GroupCodes codes;
    for (int i = 0; i < kGroupColumns; ++i) {
      const int column = 32 * g + i, half = column / 128, within = column % 128;
      const int nibble = block[64 * half + within % 64] >> (4 * (within / 64)) & 15;
      const int pair = block[128 + 32 * half + within % 32] >> (2 * (within / 32)) & 3;
      codes[i] = static_cast<std::uint8_t>(nibble | pair << 4);
    }
    put_codes(6, codes, row, panel + Layout::kCodes + g * Layout::kGroupBytes);
  }
}

template <BlockKind KIND>
void put_block(const std::uint8_t* block, std::int64_t row, std::uint8_t* panel) {
  if constexpr (KIND == BlockKind::kQ8_0) put_q8_0(block, row, panel);
  if constexpr (KIND == BlockKind::kQ4_0) put_q4_0(block, row, panel);
  if constexpr (KIND == BlockKind::kQ4_1) put_q4_1(block, row, panel);
  if constexpr (KIND == BlockKind::kQ4K) put_q4_k(block, row, panel);
  if constexpr (KIND == BlockKind::kQ6K) put_q6_k(block, row, panel);
}

/// Scale and addend of a group of one row; `part` of a group with two scales.
struct GroupScale {
  float scale, least;
};
template <BlockKind KIND>
GroupScale scale_of(std::uint8_t* panel, int group, int part, std::int64_t row) {
  using Layout = PanelLayout<KIND>;
  GroupScale found{half_of(panel, Layout::kScale, row), 0};
  if constexpr (Layout::kLeast) found.least = half_of(panel, Layout::kLeastAt, row);
  if constexpr (Layout::kSuper) {
    const std::uint8_t factor = byte_of(panel, Layout::kFactors, Layout::kScalesOfGroup * group + part, row);
    found.scale *=
        Layout::kSignedFactors ? static_cast<float>(static_cast<std::int8_t>(factor)) : static_cast<float>(factor);
    if constexpr (Layout::kLeast) found.least *= -static_cast<float>(byte_of(panel, Layout::kLeastFactors, group, row));
  }
  return found;
}

/// The values of one group of one row.
template <BlockKind KIND>
void decode_group(std::uint8_t* panel, int group, std::int64_t row, float* values) {
  using Layout = PanelLayout<KIND>;
  const GroupCodes codes = taken_codes<Layout::kCodeBits>(panel + Layout::kCodes + group * Layout::kGroupBytes, row);
  constexpr int kPart = static_cast<int>(kGroupColumns) / Layout::kScalesOfGroup;
  for (int part = 0; part < Layout::kScalesOfGroup; ++part) {
    const GroupScale by = scale_of<KIND>(panel, group, part, row);
    for (int i = part * kPart; i < (part + 1) * kPart; ++i) {
      values[i] = static_cast<float>(codes[i] - Layout::kBias) * by.scale;
      if constexpr (Layout::kLeast) values[i] += by.least;
    }
  }
}

template <BlockKind KIND>
void decode_row(std::uint8_t* panels, std::int64_t blocks, std::int64_t row, std::int64_t columns, float* values) {
  using Layout = PanelLayout<KIND>;
  std::uint8_t* panel = panels + row / kPanelRows * blocks * kPanelBytes<KIND>;
  for (std::int64_t begin = 0; begin < columns; begin += kGroupColumns) {
    const std::int64_t group = begin / kGroupColumns;
    std::uint8_t* block = panel + group / Layout::kGroups * kPanelBytes<KIND>;
    std::array<float, kGroupColumns> group_values;
    decode_group<KIND>(block, static_cast<int>(group % Layout::kGroups), row % kPanelRows, group_values.data());
    std::copy_n(group_values.begin(), std::min(kGroupColumns, columns - begin), values + begin);
  }
}

}  // namespace

std::span<const BlockFormat> block_formats() { return kFormats; }

const BlockFormat* find_block_format(const std::string& name) {
  const auto found =
      std::find_if(kFormats.begin(), kFormats.end(), [&](const BlockFormat& format) { return format.name == name; });
  return found == kFormats.end() ? nullptr : &*found;
}

std::string block_format_names() {
  std::string all;
  for (const BlockFormat& format : kFormats) all += cat(all.empty() ? "" : ", ", format.name);
  return all;
}

std::int64_t blocks_of_row(const BlockFormat& format, std::int64_t columns) {
  return (columns + format.columns - 1) / format.columns;
}

at::Tensor to_panels(const BlockFormat& format, const at::Tensor& given) {
  const at::Tensor blocks = given.contiguous();
  const std::int64_t rows = blocks.size(0), count = blocks.size(1) / format.bytes;
  expects(blocks.size(1) % format.bytes == 0, "rows are whole blocks");
  const std::int64_t panels = (rows + kPanelRows - 1) / kPanelRows;
  const at::Tensor result = at::zeros({panels, count, format.panel_bytes}, at::kByte);
  const std::uint8_t* from = blocks.const_data_ptr<std::uint8_t>();
  std::uint8_t* to = result.mutable_data_ptr<std::uint8_t>();
  with_kind(format.kind, [&]<BlockKind KIND>() {
    at::parallel_for(0, panels, 4, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t row = begin * kPanelRows; row < std::min(rows, end * kPanelRows); ++row) {
        for (std::int64_t b = 0; b < count; ++b) {
          put_block<KIND>(from + (row * count + b) * format.bytes, row % kPanelRows,
                          to + (row / kPanelRows * count + b) * format.panel_bytes);
        }
      }
    });
  });
  return result;
}

at::Tensor decode_panels(const BlockFormat& format, const at::Tensor& panels, std::int64_t rows, std::int64_t columns,
                         const at::Tensor& numbers) {
  const at::Tensor chosen = numbers.defined() ? numbers.contiguous() : numbers;
  const std::int64_t* ids = chosen.defined() ? chosen.const_data_ptr<std::int64_t>() : nullptr;
  const at::Tensor result = at::empty({ids ? chosen.numel() : rows, columns}, at::kFloat);
  auto* from = const_cast<std::uint8_t*>(panels.const_data_ptr<std::uint8_t>());
  float* to = result.mutable_data_ptr<float>();
  with_kind(format.kind, [&]<BlockKind KIND>() {
    at::parallel_for(0, result.size(0), std::max<std::int64_t>(1, 32768 / std::max<std::int64_t>(1, columns)),
                     [&](std::int64_t begin, std::int64_t end) {
                       for (std::int64_t i = begin; i < end; ++i) {
                         const std::int64_t row = ids ? ids[i] : i;
                         expects(row >= 0 && row < rows, "rows are asked for by their numbers");
                         decode_row<KIND>(from, panels.size(1), row, columns, to + i * columns);
                       }
                     });
  });
  return result;
}

bool has_finite_scales(const BlockFormat& format, const at::Tensor& panels) {
  const std::uint8_t* at = panels.const_data_ptr<std::uint8_t>();
  const std::int64_t halves = kPanelRows * (format.least ? 2 : 1);
  for (std::int64_t p = 0; p < panels.size(0) * panels.size(1); ++p, at += format.panel_bytes) {
    for (std::int64_t i = 0; i < halves; ++i) {
      if (!std::isfinite(half_of(at, 0, i))) return false;
    }
  }
  return true;
}

}  // namespace mla
