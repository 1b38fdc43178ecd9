#include "experiments/cli/command.h"
#include "experiments/commands/experiment_arguments.h"

namespace mla {
namespace {

/// Prints a config with its bases and overrides applied.
class Show final : public Command {
 public:
  void declare(OptionList& options) override { arguments_.declare(options); }
  ExitCode run(Console& console) override {
    const Json config = resolve_experiment(arguments_.config, arguments_.overrides);
    if (console.json) {
      console.report(config);
    } else {
      console.out() << config.dump(2) << "\n";
    }
    return ExitCode::kDone;
  }

 private:
  ExperimentArguments arguments_;
};

const CommandRegistration<Show> kShow("show", "print a config with its bases and overrides applied",
                                      {"mlaforge show configs/experiments/tinystories-656k.json --set train.steps=10"});

}  // namespace
}  // namespace mla
