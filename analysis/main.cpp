// mlaforge-report: reads records, never writes into them; no tensor library in the process.
#include <unistd.h>

#include <iostream>

#include "analysis/cli/command.h"

int main(int argc, char** argv) {
  std::ios::sync_with_stdio(false);
  const mla::ReportStreams streams{std::cout, std::cerr, ::isatty(STDOUT_FILENO) == 1};
  return static_cast<int>(mla::run_report({argv + 1, argv + argc}, streams));
}
