#include "core/base/registry.h"
#include "core/base/suggest.h"
#include "core/compress/pass.h"
#include "core/device/placement.h"
#include "core/low_rank/factorizer.h"
#include "core/partial_rope/key_rotation.h"
#include "experiments/cli/command.h"
#include "experiments/cli/command_line.h"
#include "experiments/commands/config_kinds.h"
#include "experiments/commands/listed_kinds.h"

namespace mla {
namespace {

std::vector<OptionChoices> known_choices() {
  std::vector<std::string> devices;
  for (const KnownDevice& device : known_devices()) devices.push_back(device.name);
  return {{"", "rope", Registry<RotationStrategy>::instance().names()},
          {"", "low-rank", Registry<Factorizer>::instance().names()},
          {"", "method", Registry<Pass>::instance().names()},
          {"", "device", devices},
          {"", "products", {"float32", "bfloat16", "auto"}},
          {"", "path", {"auto", "absorbed", "expanded"}},
          {"completion", "shell", completion_shells()},
          {"keys", "kind", config_kinds()},
          {"schema", "kind", config_kinds()},
          {"list", "kind", listed_kinds()}};
}

/// Prints a script that makes a shell complete command lines.
class Completion final : public Command {
 public:
  void declare(OptionList& options) override { options.argument("shell", shell_, "SHELL", join(completion_shells())); }

  ExitCode run(Console& console) override {
    const std::string script = completion_script(shell_, program_manual(), known_choices());
    if (!console.json) console.out() << script;
    console.report({{"shell", shell_}, {"script", script}});
    return ExitCode::kDone;
  }

 private:
  std::string shell_;
};

const CommandRegistration<Completion> kCompletion(
    "completion", "a script for bash, zsh or fish that completes commands, options and files",
    {"source <(mlaforge completion bash)", "mlaforge completion zsh > ~/.zfunc/_mlaforge",
     "mlaforge completion fish > ~/.config/fish/completions/mlaforge.fish"});

}  // namespace
}  // namespace mla
