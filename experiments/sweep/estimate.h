// What a sweep shares between its cells, and how long it may take.
#pragma once

#include <ostream>
#include <string>
#include <vector>

#include "experiments/cell/session.h"
#include "experiments/plan/plan.h"

namespace mla {

/// Work that is done once for many cells.
struct SharedWork {
  std::int64_t models = 0;          ///< source models that are loaded, and evaluated, once each
  std::int64_t calibrations = 0;    ///< distinct statistics …
  std::int64_t calibrated = 0;      ///< … and the cells that use them
  std::int64_t decompositions = 0;  ///< distinct factorizations of a model, each cut to every width …
  std::int64_t decomposed = 0;      ///< … and the cells cut from them
};

SharedWork shared_work(const ExperimentPlan& plan);

/// Equal for cells that are cut from the same decompositions, at whatever width; empty for one that needs none.
std::string decomposition_key(const CellPlan& cell);

/// What a sweep writes, in bytes.
struct DiskEstimate {
  double records = 0, models = 0;  ///< that stay
  double training_state = 0;       ///< of the largest cell, while it trains
};

/// Time that a sweep takes, from the rate of a short forward pass of each source model.
struct CostEstimate {
  double tokens_per_second = 0;  ///< of a forward pass of the first source model
  double seconds = 0;            ///< of evaluation, calibration and training; a trained token costs three forward ones
  DiskEstimate disk;             ///< of estimate_unloaded() alone
};

/// Of these cells. Reads their models and tokenizes their text, which running them needs anyway. Decompositions are not
/// counted.
CostEstimate estimate_cost(const std::vector<const CellPlan*>& cells, Session& session);

/// The same before any weight is read, by the rate of matrix products as wide as the models'. Reads tokenizers and
/// text.
CostEstimate estimate_unloaded(const std::vector<const CellPlan*>& cells);

/// Tokens per second of a forward pass with logits, from a short probe.
double forward_rate(const Decoder& decoder);

/// "40 s", "12 min", "3.1 h".
std::string describe_seconds(double seconds);

void print_shared_work(const SharedWork& work, std::ostream& out);
void print_estimate(const CostEstimate& estimate, std::ostream& out);
Json to_json(const SharedWork& work);
Json to_json(const CostEstimate& estimate);

}  // namespace mla
