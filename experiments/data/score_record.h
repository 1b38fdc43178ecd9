// One score of an evaluation, as records keep it.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "core/store/record.h"

namespace mla {

enum class Better { kHigher, kLower };

/// A score without error and samples, which callers add where they have them. `count`: samples behind the value.
inline ScoreRecord new_score(std::string stage, std::string task, std::string metric, double value, std::int64_t count,
                             std::string unit, Better better) {
  ScoreRecord score;
  score.stage = std::move(stage);
  score.task = std::move(task);
  score.metric = std::move(metric);
  score.value = value;
  score.n = count;
  score.higher_is_better = better == Better::kHigher;
  score.unit = std::move(unit);
  return score;
}

}  // namespace mla
