// The items of a multiple-choice evaluation, from its config.
#pragma once

#include <vector>

#include "core/text/multiple_choice_item.h"
#include "experiments/config/experiment_config.h"

namespace mla {

/// Reads the items of an evaluation whose task is multiple_choice, and puts them in the way that its prompt says.
/// Throws DataError as read_benchmark() does and ConfigError as make_items() does, the latter naming `path`.
std::vector<MultipleChoiceItem> load_items(const EvaluationConfig& task, const std::string& path);

}  // namespace mla
