// The 21 tasks of LongBench (arXiv 2308.14508).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/base/json.h"

namespace mla {

/// What a task asks for, and how an answer is scored.
struct LongBenchTask {
  std::string name;
  std::string prompt;           ///< official text, with {context} and {input} where these of an item go
  std::int64_t new_tokens = 0;  ///< official length of an answer
  Json metric;                  ///< {"name": …} of a TextMetric, with its options
  bool first_line = false;      ///< only an answer's first line counts, line breaks before it passed over
  bool english = true;          ///< counts in the average of the 16 English and code tasks, which MHA2MLA reports
};

/// All tasks in the order of the published tables.
const std::vector<LongBenchTask>& longbench_tasks();

/// Throws ConfigError "<path>: no 'x'; did you mean …" for a name that is none of them.
const LongBenchTask& longbench_task(const std::string& name, const std::string& path);

/// The task's prompt for an item.
std::string longbench_prompt(const LongBenchTask& task, const std::string& context, const std::string& input);

}  // namespace mla
