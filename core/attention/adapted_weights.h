// Linear maps with low-rank adapters beside their matrix (LoRA, arXiv 2106.09685).
#pragma once

#include <optional>

#include "core/attention/linear.h"

namespace mla {

struct AdapterFields {
  std::int64_t rank = 1;
  double alpha = 1;  ///< alpha / rank B A is added to a matrix
};

/// The adapters of a storage that has some; null: dense, and without.
std::optional<AdapterFields> adapters_of(const std::shared_ptr<const WeightStorage>& storage);

/// `map` with adapters, in the storage "lora": W x + alpha / rank B (A x) + b, with W held as `map` holds it, `down` A
/// [rank, columns] in float32 or float64, and B [rows, rank] all zeros, so that it gives what `map` gives. Its
/// parameters are NAME.lora_A.weight, NAME.lora_B.weight, and those of `map`. Throws std::logic_error where it has
/// adapters already.
Linear with_adapters(const Linear& map, const AdapterFields& fields, const at::Tensor& down);

/// The map with W + alpha / rank B A as its matrix, in W's dtype. Throws std::logic_error where W is not dense.
Linear without_adapters(const Linear& map);

/// Whether it has adapters, beside a dense matrix into which they can be merged.
bool adapters_merge(const std::shared_ptr<const WeightStorage>& storage);

}  // namespace mla
