#include "experiments/attribution/step.h"

#include <algorithm>

#include "core/base/registry.h"

namespace mla {

std::vector<NamedStep> attribution_steps(const CellPlan& cell) {
  auto& registry = Registry<AttributionStep>::instance();
  std::vector<NamedStep> steps;
  for (const std::string& name : registry.names()) {
    auto step = registry.make({{"name", name}}, "attribution");
    if (step->is_stated(cell)) steps.push_back({name, std::move(step)});
  }
  std::sort(steps.begin(), steps.end(),
            [](const NamedStep& a, const NamedStep& b) { return a.step->place() < b.step->place(); });
  return steps;
}

}  // namespace mla
