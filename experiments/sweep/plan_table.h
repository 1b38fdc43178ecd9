// A plan as people and programs read it.
#pragma once

#include <ostream>

#include "core/base/json.h"
#include "experiments/plan/plan.h"

namespace mla {

/// One line per cell: strategy, cached elements per token, ratio to the source, parameters, training tokens.
void print_plan(const ExperimentPlan& plan, std::ostream& out);

Json plan_to_json(const ExperimentPlan& plan);

}  // namespace mla
