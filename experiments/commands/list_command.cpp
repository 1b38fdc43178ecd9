#include "core/attention/spec.h"
#include "core/base/registry.h"
#include "core/compress/pass.h"
#include "core/low_rank/factorizer.h"
#include "core/metrics/text_metric.h"
#include "core/model/family.h"
#include "core/partial_rope/selector.h"
#include "core/quantize/codec.h"
#include "core/text/benchmark_prompt.h"
#include "experiments/cli/command.h"
#include "experiments/cli/table.h"

namespace mla {
namespace {

struct Strategy {
  std::string name, description;
  std::vector<FieldHelp> options;
};

struct Kind {
  std::string name, where;
  std::vector<Strategy> strategies;
};

template <class Interface>
Kind kind_of_strategies(const std::string& where) {
  const auto& registry = Registry<Interface>::instance();
  Kind kind{Interface::kKind, where, {}};
  for (const std::string& name : registry.names()) {
    const auto& entry = registry.find(name, kind.name);
    kind.strategies.push_back({entry.name, entry.description, entry.options});
  }
  return kind;
}

Kind forms() {
  Kind kind{"form", "\"form\" of a multiple-choice evaluation: the fields of its file's rows", {}};
  for (const BenchmarkForm& form : benchmark_forms()) kind.strategies.push_back({form.name, form.description, {}});
  return kind;
}

Kind prompts() {
  Kind kind{"prompt", "\"prompt\".\"name\" of a multiple-choice evaluation", {}};
  for (const NamedPrompt& named : named_prompts()) kind.strategies.push_back({named.name, named.description, {}});
  return kind;
}

/// Every kind of strategy that a config or checkpoint can name.
std::vector<Kind> all_kinds() {
  return {kind_of_strategies<Family>("model_type of a model's config.json"),
          kind_of_strategies<AttentionSpec>("\"kind\" of a layer in a converted model's config.json"),
          kind_of_strategies<Pass>("entries of a config's \"compress\""),
          kind_of_strategies<RopeSelector>("which rotation pairs keep their position embedding"),
          kind_of_strategies<Factorizer>("how position-free keys and values become a latent"),
          kind_of_strategies<Codec>("how a cache is stored: \"codec\" of a config's \"cache\", and mlaforge codec"),
          kind_of_strategies<TextMetric>("how an answer to a long text is scored"),
          forms(),
          prompts()};
}

void print(const Kind& kind, std::ostream& out) {
  out << kind.name << ": " << kind.where << '\n';
  for (const Strategy& strategy : kind.strategies) {
    out << "  " << strategy.name << ": " << strategy.description << '\n';
    Table options({"    option", "default", "description"});
    for (const FieldHelp& option : strategy.options)
      options.add({"    " + option.name, option.default_value, option.description});
    if (!strategy.options.empty()) options.print(out);
  }
}

Json to_json(const Kind& kind) {
  Json strategies = Json::array();
  for (const Strategy& strategy : kind.strategies) {
    Json options = Json::array();
    for (const FieldHelp& option : strategy.options) {
      options.push_back(
          {{"name", option.name}, {"default", Json::parse(option.default_value)}, {"description", option.description}});
    }
    strategies.push_back({{"name", strategy.name}, {"description", strategy.description}, {"options", options}});
  }
  return strategies;
}

class List final : public Command {
 public:
  void declare(OptionList& options) override {
    options.argument("kind", kind_, "KIND",
                     "only this kind: family, pass, rope, low_rank, codec, text_metric, form, prompt");
  }

  ExitCode run(Console& console) override {
    const std::vector<Kind> kinds = chosen();
    Json report = Json::object();
    for (const Kind& kind : kinds) {
      if (&kind != &kinds.front()) console.text() << '\n';
      print(kind, console.text());
      report[kind.name] = to_json(kind);
    }
    console.report(report);
    return ExitCode::kDone;
  }

 private:
  std::vector<Kind> chosen() const {
    std::vector<Kind> kinds = all_kinds();
    if (!kind_) return kinds;
    std::vector<std::string> known;
    for (const Kind& kind : kinds) {
      if (kind.name == *kind_) return {kind};
      known.push_back(kind.name);
    }
    throw ConfigError(unknown_name(*kind_, known));
  }

  std::optional<std::string> kind_;
};

const CommandRegistration<List> kList("list", "registered strategies by kind, with their options",
                                      {"mlaforge list", "mlaforge list rope"});

}  // namespace
}  // namespace mla
