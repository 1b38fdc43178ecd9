#include "experiments/plan/plan.h"

#include <algorithm>
#include <iterator>

#include "core/base/config.h"
#include "core/base/error.h"
#include "core/base/fields.h"
#include "core/base/grid.h"
#include "core/base/registry.h"
#include "core/model/checkpoint.h"
#include "core/train/trainable.h"
#include "experiments/cache/cache_check.h"

namespace mla {
namespace {

constexpr const char* kBaseline = "baseline";

/// Whether a grid's path is about compression, or what only that uses: a baseline has none of it.
bool is_about_compression(const std::string& path) {
  const bool of_stage = path.starts_with("stages") && path.find(".compress") != std::string::npos;
  return of_stage || path.starts_with("compress") || path.starts_with("calibration") ||
         path.starts_with("arithmetic") || path == "train.partial_rope_steps";
}

/// The cell that `cell` is compared with: the same fine-tuning and evaluation, nothing compressed.
Cell baseline_of(const Cell& cell) {
  Cell baseline{kBaseline, {{"compress", Json::array()}}, cell.config};
  baseline.config["compress"] = Json::array();
  baseline.config.erase("calibration");
  if (baseline.config.contains("stages") && baseline.config["stages"].is_array()) {
    Json training = Json::array();
    for (const Json& stage : baseline.config["stages"]) {
      if (stage.is_object() && stage.contains("train")) training.push_back(stage);
    }
    baseline.config["stages"] = std::move(training);
    if (baseline.config["compress"].empty()) baseline.config.erase("compress");
  }
  if (baseline.config.contains("train") && baseline.config["train"].is_object())
    baseline.config["train"].erase("partial_rope_steps");
  for (const auto& [path, value] : cell.overrides.items()) {
    if (is_about_compression(path)) continue;
    baseline.overrides[path] = value;
    baseline.name +=
        cat(",", path.substr(path.rfind('.') + 1), "=", value.is_string() ? value.get<std::string>() : value.dump());
  }
  return baseline;
}

/// Puts the baselines in front, each once.
void add_baselines(std::vector<Cell>& cells) {
  std::vector<Cell> baselines;
  for (const Cell& cell : cells) {
    Cell baseline = baseline_of(cell);
    const bool known = std::any_of(baselines.begin(), baselines.end(),
                                   [&](const Cell& other) { return other.config == baseline.config; });
    if (!known) baselines.push_back(std::move(baseline));
  }
  cells.insert(cells.begin(), std::make_move_iterator(baselines.begin()), std::make_move_iterator(baselines.end()));
}

/// Takes a true-or-false key out of a config that only the plan looks at.
bool take_flag(Json& config, const char* key) {
  const auto found = config.find(key);
  if (found == config.end()) return false;
  if (!found->is_boolean()) throw ConfigError(cat(key, ": expected true or false, found ", found->dump()));
  const bool value = found->get<bool>();
  config.erase(key);
  return value;
}

/// Throws ConfigError where the model has nothing that these options could train.
void check_trained(const ModelSpec& spec, const TrainOptions& options, const std::string& path) {
  if (options.lora) return check_lora(spec, *options.lora, path + ".lora");
  check_trainable(spec, options.trainable, path + ".trainable");
}

/// The stages that `partial_rope_steps` stands for: partial RoPE, its training, the low-rank step, the rest of the
/// steps.
void plan_split_stages(CellPlan& plan) {
  const std::string path = "train.partial_rope_steps";
  plan.passes = plan_passes(plan.options.compress, "compress", plan.spec);
  if (plan.passes.size() != 1)
    throw ConfigError(cat(path, ": two stages need one pass under `compress`, found ", plan.passes.size()));
  std::vector<PlannedPass> steps = plan.steps();
  if (steps.size() != 2) throw ConfigError(cat(path, ": compress[0] has no stage of partial RoPE"));
  plan.passes = std::move(steps);
  const TrainConfig& train = *plan.options.train;
  plan.stages = {{"", 0, 1, {}, "", "", false},
                 {"partial_rope", 0, 0, train.first_stage(), "fine-tune partial RoPE", "partial_rope_training", false},
                 {"converted", 1, 1, {}, "", "", false},
                 {"fine_tuned", 0, 0, train.last_stage(), "fine-tune", "training", true}};
}

/// Earlier stages of a kind are numbered, the last of each has the name that a config without stages has.
void name_stages(std::vector<StagePlan>& stages) {
  for (const bool training : {false, true}) {
    const std::string name = training ? "fine_tuned" : "converted";
    StagePlan* last = nullptr;
    int count = 0;
    for (StagePlan& stage : stages) {
      if (stage.train.has_value() != training) continue;
      ++count;
      stage.label = cat(name, "_", count);
      if (training) {
        stage.title = cat("fine-tune, stage ", count);
        stage.state = cat("training_", count);
      }
      last = &stage;
    }
    if (last == nullptr) continue;
    last->label = name;
    if (training) {
      last->title = "fine-tune";
      last->state = "training";
    }
  }
}

void plan_stages(CellPlan& plan) {
  std::vector<StageConfig> stages = plan.options.stages;
  if (stages.empty()) {
    if (!plan.options.compress.empty()) stages.push_back({plan.options.compress, {}});
    if (plan.options.train) stages.push_back({Json::array(), plan.options.train});
  }
  for (std::size_t i = 0; i < stages.size(); ++i) {
    const std::string path = plan.options.stages.empty() ? "compress" : cat("stages[", i, "].compress");
    StagePlan stage;
    stage.first_pass = plan.passes.size();
    stage.train = stages[i].train;
    for (PlannedPass& pass : plan_passes(stages[i].compress, path, plan.planned()))
      plan.passes.push_back(std::move(pass));
    stage.passes = plan.passes.size() - stage.first_pass;
    if (stage.train) {
      const std::string train = plan.options.stages.empty() ? "train" : cat("stages[", i, "].train");
      check_trained(plan.planned(), stage.train->options, train);
      if (stage.train->keeps_adapters() && i + 1 < stages.size())
        throw ConfigError(cat(train, ".lora.save = beside: stages come after it; merged serves them"));
    }
    plan.stages.push_back(std::move(stage));
  }
  name_stages(plan.stages);
}

CellPlan plan_cell(Cell cell, const std::string& experiment) {
  CellPlan plan;
  plan.name = std::move(cell.name);
  plan.config = std::move(cell.config);
  plan.overrides = std::move(cell.overrides);
  for (const auto& [key, rule] :
       {std::pair{"device", "on one device; state it"}, std::pair{"products", "with the same products; state them"}}) {
    if (!plan.overrides.contains(key)) continue;
    throw ConfigError(cat("grid.", key, ": all cells run ", rule, " once, as \"", key, "\" or --", key));
  }
  plan.expanded = plan.config;
  expand_environment(plan.expanded);
  // A record says what it was computed with, and its identity tells machines apart that compute differently.
  if (plan.expanded.contains("products") && plan.expanded["products"].is_string()) {
    plan.expanded["products"] = settled_products(plan.expanded["products"].get<std::string>(), "products");
  }
  read_fields(plan.expanded, "", plan.options);
  plan.options.name = experiment;
  plan.options.validate();
  if (!std::filesystem::exists(plan.options.model.path))
    throw DataError(cat("model.path = ", plan.options.model.path, ": no such file or folder"));
  plan.spec = load_spec(plan.options.model.path, plan.options.model.weights);
  if (plan.options.train && plan.options.train->partial_rope_steps > 0) {
    plan_split_stages(plan);
  } else {
    plan_stages(plan);
  }
  for (const PlannedPass& pass : plan.passes) {
    if (pass.pass->needs_calibration() && !plan.options.calibration)
      throw ConfigError(cat(pass.path, ": this pass measures statistics on data; state it under `calibration`"));
  }
  if (plan.options.cache) {
    const CachedDecodingConfig& cache = *plan.options.cache;
    const CachedTokens tokens{cache.decoding.prompt, cache.decoding.context - 1};
    check_cache(cache.storage, plan.spec, tokens, "cache");
    check_cache(cache.storage, plan.planned(), tokens, "cache");
  }
  plan.record = std::filesystem::path(plan.options.results) / experiment / (plan.name + ".h5");
  return plan;
}

}  // namespace

std::vector<PlannedPass> CellPlan::steps() const {
  if (passes.size() != 1) return {};
  return plan_passes(passes.front().pass->steps(), "compress", spec);
}

bool CellPlan::trains() const {
  return std::any_of(stages.begin(), stages.end(), [](const StagePlan& stage) { return stage.train.has_value(); });
}

std::int64_t CellPlan::training_tokens() const {
  std::int64_t tokens = 0;
  for (const StagePlan& stage : stages) {
    if (!stage.train) continue;
    const TrainOptions& train = stage.train->options;
    tokens += train.steps * train.batch_rows * train.accumulation * train.sequence_length;
  }
  return tokens;
}

Json resolve_experiment(const std::filesystem::path& file, const ConfigOverrides& overrides) {
  Json config = resolve_config(file);
  for (const std::string& assignment : overrides.set) apply_set(config, assignment);
  for (const std::string& assignment : overrides.grid) add_grid(config, assignment);
  if (overrides.device) {
    parse_device(*overrides.device, "--device");
    config["device"] = *overrides.device;
  }
  if (overrides.products) {
    parse_products(*overrides.products, "--products");
    config["products"] = *overrides.products;
  }
  return config;
}

ExperimentPlan plan_experiment(const std::filesystem::path& file, const ConfigOverrides& overrides) {
  Json config = resolve_experiment(file, overrides);
  ExperimentPlan plan;
  const auto name = config.find("name");  // one that is no string is refused with the other fields of a cell
  plan.name = name != config.end() && name->is_string() ? name->get<std::string>() : file.stem().string();
  const bool baseline = take_flag(config, kBaseline), skip_invalid = take_flag(config, "skip_invalid");
  std::vector<Cell> cells = expand_grid(config);
  if (baseline) add_baselines(cells);
  for (Cell& cell : cells) {
    const std::string cell_name = cell.name;
    try {
      plan.cells.push_back(plan_cell(std::move(cell), plan.name));
    } catch (const ConfigError& error) {
      if (!skip_invalid)
        throw ConfigError(
            cat(file.string(), cells.size() > 1 ? cat(" (cell ", cell_name, ")") : "", ": ", error.what()));
      plan.invalid.push_back({cell_name, error.what()});
    }
  }
  if (plan.cells.empty()) {
    throw ConfigError(
        cat(file.string(), ": none of ", cells.size(), " cells can run; the first: ", plan.invalid.front().reason));
  }
  return plan;
}

}  // namespace mla
