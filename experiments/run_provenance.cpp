#include "experiments/run_provenance.h"

#include <string>
#include <vector>

namespace mla {

Provenance provenance_of(const Console& console) {
  std::vector<const char*> arguments;
  for (const std::string& argument : console.command_line()) arguments.push_back(argument.c_str());
  return collect_provenance(static_cast<int>(arguments.size()), arguments.data());
}

}  // namespace mla
