// The models that `mlaforge bench` measures: one that is read, or random weights, and what passes make of it.
#pragma once

#include <cstddef>
#include <vector>

#include "core/model/decoder.h"
#include "experiments/bench/bench_config.h"
#include "experiments/plan/pass_list.h"

namespace mla {

/// The models of a config, planned together before any weight is read and made one at a time.
class BenchModels {
 public:
  /// Throws ConfigError for passes that do not fit, and for those that measure data where the config names none.
  explicit BenchModels(const BenchConfig& config);

  std::size_t size() const { return passes_.size(); }
  /// The model as it is read.
  const ModelSpec& source() const { return source_; }
  /// Of each what its passes plan.
  std::vector<ModelSpec> specs() const;

  /// Reads rows of calibration data where a pass measures them; `threads` encode a text. Throws DataError as
  /// load_rows() does.
  void read_calibration(int threads);

  /// Model `index`, converted, its weights placed as the config says. Stops after a signal (Interrupted).
  Decoder make(std::size_t index) const;

 private:
  Decoder load() const;

  const BenchConfig& config_;
  ModelSpec source_;
  std::vector<std::vector<PlannedPass>> passes_;
  bool measures_ = false;  ///< some pass needs rows
  std::vector<std::vector<std::int32_t>> rows_;
};

}  // namespace mla
