// Measuring decoding: what is to be measured, and what was found.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/base/json.h"
#include "core/model/decoder.h"
#include "experiments/cache/cache_format.h"

namespace mla {

/// What the machine can do, measured before the cells.
struct MachineRates {
  double bytes_per_second = 0;       ///< reading weights of 256 MB by all threads
  double operations_per_second = 0;  ///< of a large float32 matrix product
};
MachineRates measure_machine(const at::Device& device);

/// One cell: a model, a cache format, and how much of each.
struct BenchCell {
  std::int64_t batch = 1, context = 128, new_tokens = 32;
  DecodePath path = DecodePath::kAuto;
  CacheConfig cache;
  std::int64_t prefill_chunk = 0;
  std::int64_t warm_up = 1, repeats = 3;  ///< runs that do not count, and runs that do
  bool prefill = true;  ///< feed a prompt; otherwise the cache is filled with random numbers, which takes no time
  std::uint64_t seed = 0;
};

/// Repeated measurements of one quantity.
struct Samples {
  std::vector<double> values;
  std::vector<std::int64_t> runs;  ///< how many of them each run gave, one after the other
  double median() const;
  /// Half of the distance between the quartiles; 0 for fewer than two.
  double spread() const;
  /// Standard error of the median, had the runs been others: steps of one run depend on each other. Absent for a single
  /// run.
  std::optional<double> standard_error() const;
};

struct BenchResult {
  Samples first_ms;              ///< time to first token
  Samples token_ms;              ///< one step of all sequences; each step of each run that counts
  double tokens_per_second = 0;  ///< of all sequences, at the median step
  std::int64_t peak_bytes = 0;   ///< resident memory of the process, at most
  std::int64_t cached_tokens = 0, cache_bytes = 0, predicted_bytes = 0, allocated_bytes = 0;
  std::int64_t weight_bytes = 0, predicted_weight_bytes = 0;
  double step_bytes = 0, step_operations = 0;     ///< weights and cache read, and floating-point operations, of a step
  double bandwidth_share = 0, compute_share = 0;  ///< of the measured rates; the larger is the roofline that is met
  double prefill_compute_share = 0;               ///< 0 where no prompt was fed
};

/// Throws ConfigError for a cell that the model does not have room for.
void check_room(const Decoder& decoder, const BenchCell& cell);

/// Measures one cell through a cache of this format, whatever the cell says of one; without shares of a roofline.
/// Needs room for it, and stops between two steps when a signal arrives (Interrupted).
BenchResult measure_decoding(const Decoder& decoder, const BenchCell& cell, const CacheFormat& format);

/// The same through the cell's own cache, compared with what the machine can do; `samples` calibrate the cache's codec,
/// where that needs it.
BenchResult run_bench(const Decoder& decoder, const BenchCell& cell, const MachineRates& machine,
                      const CacheSamples& samples = {});

}  // namespace mla
