// Running the command line: in this process, or as a program of its own.
#pragma once

#include <sys/wait.h>

#include <cstdlib>
#include <sstream>
#include <string>
#include <vector>

#include "core/base/file.h"
#include "core/base/json.h"
#include "experiments/cli/command_line.h"
#include "tests/support/temporary_folder.h"

namespace mla::test {

struct ProgramResult {
  int exit_code = 0;
  std::string out, err;
  /// stdout as JSON.
  Json json() const { return parse_json(out, "stdout"); }
};

/// `mlaforge ARGUMENTS…` with `input` on stdin, in this process.
inline ProgramResult run_program(const std::vector<std::string>& arguments, const std::string& input = "") {
  std::istringstream in(input);
  std::ostringstream out, err;
  const ExitCode code = run_main(arguments, {in, out, err});
  return {static_cast<int>(code), out.str(), err.str()};
}

/// A shell script in which `mlaforge` is the program that was built.
inline ProgramResult run_script(const std::string& script) {
  const TemporaryFolder folder;
  const auto file = folder.write("script.sh", "PATH=" MLA_BINARY_DIR ":$PATH\n" + script + "\n");
  const std::string out = (folder / "out").string(), err = (folder / "err").string();
  const int status = std::system(("bash " + file.string() + " >" + out + " 2>" + err + " </dev/null").c_str());
  return {WEXITSTATUS(status), read_file(out), read_file(err)};
}

}  // namespace mla::test
