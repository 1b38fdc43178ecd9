// mlaforge-report in this process.
#pragma once

#include <sstream>
#include <string>
#include <vector>

#include "analysis/cli/command.h"
#include "core/base/json.h"

namespace mla::test {

struct ReportResult {
  int exit_code = 0;
  std::string out, err;
  /// stdout as JSON.
  Json json() const { return parse_json(out, "stdout"); }
};

/// `mlaforge-report ARGUMENTS…`
inline ReportResult run_report(const std::vector<std::string>& arguments) {
  std::ostringstream out, err;
  const ExitCode code = mla::run_report(arguments, ReportStreams{out, err, false});
  return {static_cast<int>(code), out.str(), err.str()};
}

}  // namespace mla::test
