// KVQuant's codes of rows, given what was calibrated: by loops over the host's memory, and by LibTorch's operations
// where the rows stand. Both give the same bits.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "core/quantize/codec.h"
#include "core/quantize/kvquant_options.h"

namespace mla {

/// What is the same for all rows of a stream, on one device; float32.
struct KvQuantTables {
  at::Tensor search, codebook;  ///< [2^bits]: where codes are looked up, and what they stand for; undefined: uniform
  at::Tensor upper, lower;      ///< [channels], thresholds of keys, rounded to float16; undefined for values
  at::Tensor scale, zero;       ///< likewise

  KvQuantTables on(at::Device device) const;
};

/// How rows are coded.
struct KvQuantScheme {
  int bits = 4;
  KvQuantCodes codes = KvQuantCodes::kNonUniform;
  bool key = false;                ///< tables' thresholds, scales and zeros; else each row's own
  bool sparse = false;             ///< outliers stand apart
  std::int64_t most_outliers = 0;  ///< of a key row on each side, the farthest ones in units of their channel; 0: all
  double quantile = 1;             ///< of a value row's elements, from which on they are outliers; below, by symmetry
  bool half_scales = false;        ///< values' scales and zeros are rounded to float16
};

struct KvQuantRows {
  at::Tensor codes;        ///< uint8 [rows, width]; 0 where an outlier stands
  at::Tensor scale, zero;  ///< float32 [rows], of values
  SparseRows sparse;
};

/// Of rows [rows, width], float32 numbers that float16 holds. The second leaves outliers spread.
KvQuantRows kvquant_rows_on_host(const at::Tensor& rows, const KvQuantScheme& scheme, const KvQuantTables& tables);
KvQuantRows kvquant_rows_by_operations(const at::Tensor& rows, const KvQuantScheme& scheme,
                                       const KvQuantTables& tables);

/// The q-quantile along `axis` of sorted values, linear between neighbours; float32 of float64 arithmetic.
at::Tensor sorted_quantile(const at::Tensor& sorted, std::int64_t axis, double q);

/// Thresholds and codebook that `chosen` was not given, from rows of what will be encoded. On the host: it happens once
/// for a stream. Throws DataError for samples that are no numbers and weights below 0, ConfigError for nothing but
/// outliers.
void calibrate_kvquant(const StreamSample& sample, double quantile, std::int64_t first_tokens, KvQuantOptions& chosen);

}  // namespace mla
