// How much memory training takes on each of the processes that share it, before it is begun.
#pragma once

#include <cstdint>
#include <optional>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

#include "core/train/trainer.h"
#include "experiments/plan/plan.h"

namespace mla {

/// Bytes that one process holds at the moment of the most, by what they are for.
struct MemoryEstimate {
  std::int64_t ranks = 1;
  std::vector<std::pair<std::string, std::int64_t>> items;
  std::int64_t total() const;
};

/// Training `spec` with `options` in rows of at most `length` tokens, by `ranks` processes, on processors. `source`
/// bytes of a model stand beside it: the one that was converted, and that distillation compares with.
MemoryEstimate estimate_training(const ModelSpec& spec, const TrainOptions& options, std::int64_t length,
                                 std::int64_t ranks, std::int64_t source, Products products = Products::kFloat32);

/// Calibration of a cell's source model: its weights, the statistics that its first pass asks for, and a batch under
/// way. Nothing where none are gathered.
std::optional<MemoryEstimate> estimate_calibration(const CellPlan& cell);

/// Decoding the texts of `evaluate` through the cache that the config asks for: the models, and what its windows hold
/// at their ends, by what its streams store. Nothing without such a cache, and for codecs that lean on a calibration,
/// of which no size is known before it.
std::optional<MemoryEstimate> estimate_decoding(const CellPlan& cell);

/// A cell's phases by name: "calibration", each training by its title, "cache".
using PhaseEstimates = std::vector<std::pair<std::string, MemoryEstimate>>;
PhaseEstimates estimate_memory(const CellPlan& cell, std::int64_t ranks);

Json to_json(const MemoryEstimate& estimate);
void print_memory(const std::vector<PhaseEstimates>& by_ranks, std::ostream& out);

}  // namespace mla
