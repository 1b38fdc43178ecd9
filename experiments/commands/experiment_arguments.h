// What every command about an experiment takes: its config file and changes to it.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "core/cli/options.h"
#include "experiments/plan/plan.h"

namespace mla {

struct ExperimentArguments {
  std::filesystem::path config;
  ConfigOverrides overrides;

  /// CONFIG, --set, --grid, --device and --products.
  void declare(OptionList& options);

  /// The same as words of a command line.
  std::vector<std::string> words() const;
};

}  // namespace mla
