#include "experiments/cli/command.h"
#include "experiments/commands/experiment_arguments.h"
#include "experiments/sweep/plan_table.h"

namespace mla {
namespace {

/// Resolves and constructs everything a run needs, reads no weights, and prints the plan.
class Check final : public Command {
 public:
  void declare(OptionList& options) override { arguments_.declare(options); }
  ExitCode run(Console& console) override {
    const ExperimentPlan plan = plan_experiment(arguments_.config, arguments_.overrides);
    print_plan(plan, console.text());
    console.report(plan_to_json(plan));
    return ExitCode::kDone;
  }

 private:
  ExperimentArguments arguments_;
};

const CommandRegistration<Check> kCheck("check", "resolve and check an experiment, print its plan",
                                        {"mlaforge check configs/experiments/tinystories-656k.json"});

}  // namespace
}  // namespace mla
