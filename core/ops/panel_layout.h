// The bytes of a panel: sixteen rows' block of codes, and their scales.
#pragma once

#include <cstdint>

#include "core/ops/block_panels.h"

namespace mla {

/// Offsets within the panel of one block. Scales of sixteen rows lie beside each other, and so do the codes of four
/// columns of sixteen rows: 64 bytes, "quads". 8-bit codes of a group of 32 columns are eight quads. 4-bit codes are
/// four, whose low halves hold columns 0 to 15 and whose high halves the others. 6-bit codes are four such quads, and
/// two of bit pairs, of which quad q takes those of quad q % 2 at bit 2 * (q / 2).
template <BlockKind KIND>
struct PanelLayout;

template <>
struct PanelLayout<BlockKind::kQ8_0> {
  static constexpr int kGroups = 1, kBias = 128, kCodeBits = 8, kScalesOfGroup = 1;
  static constexpr bool kSuper = false, kLeast = false;
  static constexpr std::int64_t kScale = 0, kLeastAt = 0, kCodes = 32, kGroupBytes = 512;
};
template <>
struct PanelLayout<BlockKind::kQ4_0> {
  static constexpr int kGroups = 1, kBias = 8, kCodeBits = 4, kScalesOfGroup = 1;
  static constexpr bool kSuper = false, kLeast = false;
  static constexpr std::int64_t kScale = 0, kLeastAt = 0, kCodes = 32, kGroupBytes = 256;
};
template <>
struct PanelLayout<BlockKind::kQ4_1> {
  static constexpr int kGroups = 1, kBias = 0, kCodeBits = 4, kScalesOfGroup = 1;
  static constexpr bool kSuper = false, kLeast = true;
  static constexpr std::int64_t kScale = 0, kLeastAt = 32, kCodes = 64, kGroupBytes = 256;
};
/// Small whole factors of the scale and of the addend, for each group, behind those of the block.
template <>
struct PanelLayout<BlockKind::kQ4K> {
  static constexpr int kGroups = 8, kBias = 0, kCodeBits = 4, kScalesOfGroup = 1;
  static constexpr bool kSuper = true, kLeast = true, kSignedFactors = false;
  static constexpr std::int64_t kScale = 0, kLeastAt = 32, kFactors = 64, kLeastFactors = 192, kCodes = 320,
                                kGroupBytes = 256;
};
template <>
struct PanelLayout<BlockKind::kQ6K> {
  static constexpr int kGroups = 8, kBias = 32, kCodeBits = 6, kScalesOfGroup = 2;
  static constexpr bool kSuper = true, kLeast = false, kSignedFactors = true;
  static constexpr std::int64_t kScale = 0, kLeastAt = 0, kFactors = 32, kLeastFactors = 0, kCodes = 288,
                                kGroupBytes = 384;
};

template <BlockKind KIND>
constexpr std::int64_t kPanelBytes =
    PanelLayout<KIND>::kCodes + PanelLayout<KIND>::kGroups* PanelLayout<KIND>::kGroupBytes;

/// Calls work.template operator()<KIND>() for the kind.
template <class Work>
void with_kind(BlockKind kind, const Work& work) {
  switch (kind) {
    case BlockKind::kQ8_0:
      return work.template operator()<BlockKind::kQ8_0>();
    case BlockKind::kQ4_0:
      return work.template operator()<BlockKind::kQ4_0>();
    case BlockKind::kQ4_1:
      return work.template operator()<BlockKind::kQ4_1>();
    case BlockKind::kQ4K:
      return work.template operator()<BlockKind::kQ4K>();
    case BlockKind::kQ6K:
      return work.template operator()<BlockKind::kQ6K>();
  }
}

}  // namespace mla
