// The items of an evaluation, from its config.
#pragma once

#include <string>
#include <vector>

#include "core/text/multiple_choice_item.h"
#include "experiments/tasks/evaluation_config.h"

namespace mla {

/// Reads the items of an evaluation whose task is multiple_choice, and puts them in the way that its prompt says.
/// Throws DataError as read_benchmark() does and ConfigError as make_items() does, the latter naming `path`.
std::vector<MultipleChoiceItem> load_items(const EvaluationConfig& task, const std::string& path);

/// An evaluation whose task is multiple_choice, of no items yet.
EvaluationConfig choice_evaluation();

/// Throws ConfigError naming `path` where a task that needs items has none.
void expect_items(const EvaluationConfig& task, const std::string& path);

/// The files of an evaluation's items and of its solved examples. Throws DataError where there are none.
std::vector<std::string> files_of_items(const EvaluationConfig& task);

}  // namespace mla
