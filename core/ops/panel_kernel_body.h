// The body of panel_kernel.h's functions, for lanes of one instruction set. Included behind the definition of SET's
// operations on sixteen lanes, with that instruction set switched on, and so without any include of its own that has
// functions:
//   Bytes load(p), low_halves(b), high_halves(b), bit_pairs(b, shift), with_pairs(nibbles, pairs): 64 bytes
//   Ints ints(number), dot<LARGE>(sum, codes, four): adds for each lane the products of its four codes with the four
//     signed bytes at `four`; codes over 127 only where LARGE
//   Floats halves(p), unsigned_bytes(p), signed_bytes(p), floats(ints), all(number), product, sum, negative
//   void store(p, floats)
#pragma once

#include "core/ops/panel_kernel.h"
#include "core/ops/panel_layout.h"

namespace mla {
namespace {

/// The codes of a group: eight quads.
template <class SET, int BITS>
[[gnu::always_inline]] inline void load_quads(const std::uint8_t* from, typename SET::Bytes (&quads)[8]) {
  if constexpr (BITS == 8) {
#pragma GCC unroll 8
    for (int q = 0; q < 8; ++q) quads[q] = SET::load(from + 64 * q);
  } else {
#pragma GCC unroll 4
    for (int q = 0; q < 4; ++q) {
      const typename SET::Bytes both = SET::load(from + 64 * q);
      quads[q] = SET::low_halves(both);
      quads[q + 4] = SET::high_halves(both);
    }
    if constexpr (BITS == 6) {
      const typename SET::Bytes even = SET::load(from + 256), odd = SET::load(from + 320);
      quads[0] = SET::with_pairs(quads[0], SET::template bit_pairs<0>(even));
      quads[1] = SET::with_pairs(quads[1], SET::template bit_pairs<0>(odd));
      quads[2] = SET::with_pairs(quads[2], SET::template bit_pairs<2>(even));
      quads[3] = SET::with_pairs(quads[3], SET::template bit_pairs<2>(odd));
      quads[4] = SET::with_pairs(quads[4], SET::template bit_pairs<4>(even));
      quads[5] = SET::with_pairs(quads[5], SET::template bit_pairs<4>(odd));
      quads[6] = SET::with_pairs(quads[6], SET::template bit_pairs<6>(even));
      quads[7] = SET::with_pairs(quads[7], SET::template bit_pairs<6>(odd));
    }
  }
}

/// Scales of a group, or of one half of it.
template <class SET, BlockKind KIND>
[[gnu::always_inline]] inline typename SET::Floats scale_lanes(const std::uint8_t* block, int group, int part) {
  using Layout = PanelLayout<KIND>;
  const typename SET::Floats scale = SET::halves(block + Layout::kScale);
  if constexpr (!Layout::kSuper) {
    return scale;
  } else {
    const std::uint8_t* factors = block + Layout::kFactors + 16 * (Layout::kScalesOfGroup * group + part);
    if constexpr (Layout::kSignedFactors) {
      return SET::product(scale, SET::signed_bytes(factors));
    } else {
      return SET::product(scale, SET::unsigned_bytes(factors));
    }
  }
}
template <class SET, BlockKind KIND>
[[gnu::always_inline]] inline typename SET::Floats least_lanes(const std::uint8_t* block, int group) {
  using Layout = PanelLayout<KIND>;
  const typename SET::Floats least = SET::halves(block + Layout::kLeastAt);
  if constexpr (!Layout::kSuper) {
    return least;
  } else {
    return SET::negative(SET::product(least, SET::unsigned_bytes(block + Layout::kLeastFactors + 16 * group)));
  }
}

/// Sums of codes' products for VECTORS rows of x from `row` on with one panel.
template <class SET, BlockKind KIND, int VECTORS>
[[gnu::always_inline]] inline void panel_rows(const PanelTask& task, std::int64_t row, const std::uint8_t* block,
                                              typename SET::Floats (&totals)[VECTORS]) {
  using Layout = PanelLayout<KIND>;
  constexpr int kParts = Layout::kScalesOfGroup, kQuads = 8 / kParts;
#pragma GCC unroll 8
  for (int v = 0; v < VECTORS; ++v) totals[v] = SET::all(0.0F);
  for (std::int64_t first = 0; first < task.groups; first += Layout::kGroups, block += kPanelBytes<KIND>) {
    for (int g = 0; g < Layout::kGroups; ++g) {
      const std::int64_t group = row * task.groups + first + g;
      typename SET::Bytes quads[8];
      load_quads<SET, Layout::kCodeBits>(block + Layout::kCodes + g * Layout::kGroupBytes, quads);
#pragma GCC unroll 2
      for (int part = 0; part < kParts; ++part) {
        const typename SET::Floats scale = scale_lanes<SET, KIND>(block, g, part);
#pragma GCC unroll 8
        for (int v = 0; v < VECTORS; ++v) {
          const std::int64_t at = group + v * task.groups;
          const std::int8_t* x = task.codes + 32 * at + 4 * kQuads * part;
          int shift = 0;
          if constexpr (Layout::kBias > 0)
            shift =
                -Layout::kBias * (kParts == 2 ? task.sums[2 * at + part] : task.sums[2 * at] + task.sums[2 * at + 1]);
          typename SET::Ints sum = SET::ints(shift);
#pragma GCC unroll 8
          for (int q = 0; q < kQuads; ++q)
            sum = SET::template dot<(Layout::kCodeBits > 7)>(sum, quads[kQuads * part + q], x + 4 * q);
          totals[v] =
              SET::sum(totals[v], SET::product(SET::floats(sum), SET::product(scale, SET::all(task.scales[at]))));
        }
      }
      if constexpr (Layout::kLeast) {
        const typename SET::Floats least = least_lanes<SET, KIND>(block, g);
#pragma GCC unroll 8
        for (int v = 0; v < VECTORS; ++v) {
          totals[v] = SET::sum(totals[v], SET::product(least, SET::all(task.offsets[group + v * task.groups])));
        }
      }
    }
  }
}

template <class SET, BlockKind KIND, int VECTORS>
[[gnu::always_inline]] inline void some_rows(const PanelTask& task, std::int64_t row) {
  const std::int64_t bytes =
      (task.groups + PanelLayout<KIND>::kGroups - 1) / PanelLayout<KIND>::kGroups * kPanelBytes<KIND>;
  for (std::int64_t p = 0; p < task.panel_count; ++p) {
    typename SET::Floats totals[VECTORS];
    panel_rows<SET, KIND, VECTORS>(task, row, task.panels + p * bytes, totals);
    const std::int64_t left = task.outputs - p * kPanelRows;
    for (int v = 0; v < VECTORS; ++v) {
      float* to = task.out + (row + v) * task.out_stride + p * kPanelRows;
      if (left >= kPanelRows) {
        SET::store(to, totals[v]);
        continue;
      }
      float lanes[kPanelRows];
      SET::store(lanes, totals[v]);
      for (std::int64_t i = 0; i < left; ++i) to[i] = lanes[i];
    }
  }
}

/// `MOST`, a power of two: how many rows of x the registers hold beside a group's codes.
template <class SET, BlockKind KIND, int MOST>
[[gnu::always_inline]] inline void all_rows(const PanelTask& task) {
  std::int64_t row = 0;
  for (; row + MOST <= task.rows; row += MOST) some_rows<SET, KIND, MOST>(task, row);
  if constexpr (MOST > 4) {
    if (row + 4 <= task.rows) some_rows<SET, KIND, 4>(task, row), row += 4;
  }
  if constexpr (MOST > 2) {
    if (row + 2 <= task.rows) some_rows<SET, KIND, 2>(task, row), row += 2;
  }
  for (; row < task.rows; ++row) some_rows<SET, KIND, 1>(task, row);
}

template <class SET, int MOST>
void panels_of_kind(const PanelTask& task) {
  switch (task.kind) {
    case BlockKind::kQ8_0:
      return all_rows<SET, BlockKind::kQ8_0, MOST>(task);
    case BlockKind::kQ4_0:
      return all_rows<SET, BlockKind::kQ4_0, MOST>(task);
    case BlockKind::kQ4_1:
      return all_rows<SET, BlockKind::kQ4_1, MOST>(task);
    case BlockKind::kQ4K:
      return all_rows<SET, BlockKind::kQ4K, MOST>(task);
    case BlockKind::kQ6K:
      return all_rows<SET, BlockKind::kQ6K, MOST>(task);
  }
}

}  // namespace
}  // namespace mla
