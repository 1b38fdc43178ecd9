// Which columns of a block of one-bit weights are salient, and where small elements end and large ones begin.
#pragma once

#include <cstdint>
#include <vector>

#include "core/quantize/one_bit.h"

namespace mla {

/// Numbers as one sign each: mean + scale * sign.
struct Binarised {
  double mean = 0, scale = 0;
  double error = 0;  ///< sum of squares
  double value(double x) const { return x >= mean ? mean + scale : mean - scale; }
};
/// Of `count` numbers; about 0 where they are not centred.
Binarised binarise(const double* x, std::int64_t count, bool centred);

/// Elements of a block, float64 [rows, columns] row by row.
struct BlockView {
  const double* elements;
  std::int64_t rows, columns;
};

/// How the columns and elements of a block are divided.
struct BlockPartition {
  std::vector<std::uint8_t> salient;  ///< [columns]
  std::vector<std::uint8_t> large;    ///< [rows, columns]; 0 in salient columns
  double break_point = 0;
};

/// `saliency`: of the block's elements; it decides the order of columns, and with kSaliency the rest as well.
BlockPartition divide_block(const BlockView& weights, const BlockView& saliency, const OneBitOptions& options);

}  // namespace mla
