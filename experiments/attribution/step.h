// The steps from a source model to the one that is served, each of which loses or wins something.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/model/decoder.h"
#include "experiments/cache/cache_format.h"
#include "experiments/cell/session.h"
#include "experiments/plan/plan.h"

namespace mla {

/// Where the walk stands.
struct AttributionState {
  const CellPlan& cell;
  Session& session;
  Decoder decoder;         ///< after the steps so far; a step changes it in place
  CacheConfig cache = {};  ///< how decoding stores its cache after the steps so far
};

/// One step. Each registers itself in its own file under this folder; the walk takes those that the config states, in
/// the order of place().
class AttributionStep {
 public:
  static constexpr const char* kKind = "attribution step";
  virtual ~AttributionStep() = default;

  /// Steps are taken in ascending order.
  virtual int place() const = 0;

  /// Whether the cell's config has this step. Throws ConfigError for a config that cannot be walked.
  virtual bool is_stated(const CellPlan& cell) const = 0;

  virtual void apply(AttributionState& state) const = 0;

  /// Whether the step changes each layer's attention and nothing else, so that layers can be exchanged one at a time.
  virtual bool is_layerwise() const { return false; }
};

/// A step with the name it is reported under.
struct NamedStep {
  std::string name;
  std::unique_ptr<AttributionStep> step;
};

/// The cell's steps in order.
std::vector<NamedStep> attribution_steps(const CellPlan& cell);

}  // namespace mla
