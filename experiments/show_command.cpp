#include "experiments/command.h"
#include "experiments/plan.h"

namespace mla {
namespace {

/// Prints a config with its bases and overrides applied.
class Show final : public Command {
 public:
  void declare(OptionList& options) override {
    options.argument("config", config_, "CONFIG", "the experiment's JSON file");
    options.add("set", overrides_.set, "KEY=VALUE", "change a value of the config; may be repeated");
    options.add("grid", overrides_.grid, "KEY=A,B,…", "add values to the grid; may be repeated");
  }
  ExitCode run(Console& console) override {
    const Json config = resolve_experiment(config_, overrides_);
    if (console.json) {
      console.report(config);
    } else {
      console.out() << config.dump(2) << "\n";
    }
    return ExitCode::kDone;
  }

 private:
  std::filesystem::path config_;
  ConfigOverrides overrides_;
};

const CommandRegistration<Show> kShow("show", "print a config with its bases and overrides applied",
                                      {"mlaforge show configs/experiments/tinystories-656k.json --set train.steps=10"});

}  // namespace
}  // namespace mla
