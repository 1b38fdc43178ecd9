// What one thread does of a product with panels; compiled for each instruction set.
#pragma once

#include <cstdint>

#include "core/ops/block_panels.h"

namespace mla {

/// Rows of x as rounded_rows.h has them, and where their results go.
struct PanelTask {
  const std::int8_t* codes;
  const float *scales, *offsets;
  const std::int32_t* sums;
  std::int64_t rows, groups;  ///< of x
  BlockKind kind;
  const std::uint8_t* panels;         ///< the first of them
  std::int64_t panel_count, outputs;  ///< panels, and their rows that are there
  float* out;                         ///< [rows of x, out_stride], from the first panel's first row on
  std::int64_t out_stride;
};

void plain_panels(const PanelTask& task);
void avx2_panels(const PanelTask& task);
void avx512_panels(const PanelTask& task);
void vnni_panels(const PanelTask& task);

}  // namespace mla
