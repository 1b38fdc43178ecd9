#include "core/base/field_schema.h"
#include "core/base/suggest.h"
#include "experiments/bench/bench_config.h"
#include "experiments/cli/command.h"
#include "experiments/commands/config_kinds.h"
#include "experiments/config/config_schema.h"

namespace mla {

const std::vector<std::string>& config_kinds() {
  static const std::vector<std::string> kinds = {"experiment", "pretrain", "bench"};
  return kinds;
}

Json schema_of_kind(const std::string& kind) {
  if (kind == "experiment") return experiment_schema();
  if (kind == "pretrain") return pretrain_schema();
  if (kind == "bench") return file_schema("a benchmark of mlaforge bench", schema_of(BenchConfig{}));
  throw ConfigError(unknown_name(kind, config_kinds()));
}

namespace {

/// Prints what editors check a config file against.
class Schema final : public Command {
 public:
  void declare(OptionList& options) override {
    options.argument("kind", kind_, "KIND", "of config: " + join(config_kinds()) + "; without it, experiment");
  }

  ExitCode run(Console& console) override {
    const Json schema = schema_of_kind(kind_.value_or(config_kinds().front()));
    if (console.json) {
      console.report(schema);
    } else {
      console.out() << schema.dump(2) << "\n";
    }
    return ExitCode::kDone;
  }

 private:
  std::optional<std::string> kind_;
};

const CommandRegistration<Schema> kSchema("schema", "JSON Schema of config files, for editors",
                                          {"mlaforge schema > experiment.schema.json", "mlaforge schema pretrain"});

}  // namespace
}  // namespace mla
