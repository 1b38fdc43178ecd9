// The names under which scores are recorded, explained.
#pragma once

#include <string>
#include <vector>

namespace mla {

struct MetricHelp {
  std::string name;  ///< "kl_90"; a part in capitals stands for any text: "exact_LENGTH"
  std::string task;  ///< whose score it is
  std::string unit;  ///< "" for a pure number
  bool higher_is_better = false;
  std::string description;
};

/// All that the tasks of configs record.
const std::vector<MetricHelp>& metric_helps();

/// Whether a recorded name is one of the metric's.
bool is_named(const std::string& metric, const MetricHelp& help);

}  // namespace mla
