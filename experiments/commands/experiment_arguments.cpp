#include "experiments/commands/experiment_arguments.h"

#include "experiments/model/placement_options.h"

namespace mla {

void ExperimentArguments::declare(OptionList& options) {
  options.argument("config", config, "CONFIG", "the experiment's JSON or YAML file");
  options.add("set", overrides.set, "KEY=VALUE",
              "change a value of the config, for example train.steps=100; may be repeated");
  options.add("grid", overrides.grid, "KEY=A,B,…", "one cell for each value; may be repeated");
  declare_device(options, overrides.device, "cpu, or the config's");
  declare_products(options, overrides.products, "float32, or the config's");
}

std::vector<std::string> ExperimentArguments::words() const {
  std::vector<std::string> words = {config.string()};
  for (const std::string& assignment : overrides.set) words.insert(words.end(), {"--set", assignment});
  for (const std::string& assignment : overrides.grid) words.insert(words.end(), {"--grid", assignment});
  if (overrides.device) words.insert(words.end(), {"--device", *overrides.device});
  if (overrides.products) words.insert(words.end(), {"--products", *overrides.products});
  return words;
}

}  // namespace mla
