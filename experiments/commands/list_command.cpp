#include <algorithm>
#include <iterator>

#include "core/attention/spec.h"
#include "core/attention/weight_storage.h"
#include "core/base/registry.h"
#include "core/compress/pass.h"
#include "core/device/placement.h"
#include "core/low_rank/allocator.h"
#include "core/low_rank/factorizer.h"
#include "core/metrics/text_metric.h"
#include "core/model/family.h"
#include "core/partial_rope/key_rotation.h"
#include "core/quantize/codec.h"
#include "core/serve/export_format.h"
#include "core/text/benchmark_prompt.h"
#include "experiments/cli/command.h"
#include "experiments/cli/table.h"
#include "experiments/commands/listed_kinds.h"
#include "experiments/tasks/evaluation_task.h"

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

/// A task's options are the keys of its evaluation that it reads, and those that it alone has.
Kind tasks() {
  Kind kind = kind_of_strategies<EvaluationTask>("\"task\" of an entry of a config's \"evaluate\"");
  const std::vector<FieldHelp> common = describe_fields<EvaluationConfig>();
  for (Strategy& strategy : kind.strategies) {
    const auto task =
        Registry<EvaluationTask>::instance().find(strategy.name, kind.name).make(Json::object(), kind.name);
    const std::vector<std::string> reads = task->reads();
    for (FieldHelp& own : strategy.options) own.name.insert(0, strategy.name + ".");
    std::copy_if(common.begin(), common.end(), std::back_inserter(strategy.options), [&](const FieldHelp& field) {
      return std::find(reads.begin(), reads.end(), field.name) != reads.end();
    });
    strategy.description += cat("; asks for ", describe(task->asks()));
    if (task->decodes_through_cache()) strategy.description += ", also through a cell's \"cache\"";
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

Kind devices() {
  Kind kind{"device", "\"device\" of a config, and --device: where a model stands and is computed", {}};
  for (const KnownDevice& device : known_devices()) kind.strategies.push_back({device.name, device.description, {}});
  return kind;
}

/// Every kind of strategy that a config or checkpoint can name.
std::vector<Kind> all_kinds() {
  return {kind_of_strategies<Family>("model_type of a model's config.json"),
          kind_of_strategies<AttentionSpec>("\"kind\" of a layer in a converted model's config.json"),
          kind_of_strategies<WeightStorage>("entries of \"weight_storage\" in a model's config.json"),
          kind_of_strategies<Pass>("entries of a config's \"compress\""),
          kind_of_strategies<RotationStrategy>("which rotation of keys survives"),
          kind_of_strategies<Factorizer>("how position-free keys and values become a latent"),
          kind_of_strategies<Allocator>("how layers share the elements of their latents: \"allocate\" of a pass"),
          kind_of_strategies<Codec>(
              "how caches and weights are stored: \"codec\" of a config's \"cache\" and of a pass, and mlaforge codec"),
          kind_of_strategies<ExportFormat>("--format of mlaforge export: what other engines read"),
          kind_of_strategies<TextMetric>("how an answer to a long text is scored"),
          tasks(),
          forms(),
          prompts(),
          devices()};
}

/// A default as a table shows it: nested options have descriptions of their own elsewhere.
std::string in_brief(const std::string& value) {
  constexpr std::size_t kLongest = 100;
  return value.size() > kLongest && value.starts_with('{') ? "{...}" : value;
}

void print(const Kind& kind, std::ostream& out) {
  out << kind.name << ": " << kind.where << '\n';
  for (const Strategy& strategy : kind.strategies) {
    out << "  " << strategy.name << ": " << strategy.description << '\n';
    Table options({"    option", "default", "description"});
    for (const FieldHelp& option : strategy.options)
      options.add({"    " + option.name, in_brief(option.default_value), option.description});
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
                     "only this kind: family, attention, pass, rope, low_rank, allocator, codec, export_format, "
                     "text_metric, task, form, prompt, "
                     "device");
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

std::vector<std::string> listed_kinds() {
  std::vector<std::string> names;
  for (const Kind& kind : all_kinds()) names.push_back(kind.name);
  return names;
}

}  // namespace mla
