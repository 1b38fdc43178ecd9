#include "experiments/command.h"
#include "experiments/plan_table.h"

namespace mla {
namespace {

/// Resolves and constructs everything a run needs, reads no weights, and prints the plan.
class Check final : public Command {
 public:
  void declare(OptionList& options) override {
    options.argument("config", config_, "CONFIG", "the experiment's JSON file");
    options.add("set", overrides_.set, "KEY=VALUE", "change a value of the config; may be repeated");
    options.add("grid", overrides_.grid, "KEY=A,B,…", "one cell for each value; may be repeated");
  }
  ExitCode run(Console& console) override {
    const ExperimentPlan plan = plan_experiment(config_, overrides_);
    print_plan(plan, console.text());
    console.report(plan_to_json(plan));
    return ExitCode::kDone;
  }

 private:
  std::filesystem::path config_;
  ConfigOverrides overrides_;
};

const CommandRegistration<Check> kCheck("check", "resolve and check an experiment, print its plan",
                                        {"mlaforge check configs/experiments/tinystories-656k.json"});

}  // namespace
}  // namespace mla
