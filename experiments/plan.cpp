#include "experiments/plan.h"

#include <iterator>
#include <sstream>

#include "core/base/config.h"
#include "core/base/error.h"
#include "core/base/fields.h"
#include "core/base/grid.h"
#include "core/base/registry.h"
#include "core/model/checkpoint.h"

namespace mla {
namespace {

constexpr const char* kBaseline = "baseline";

/// Whether a grid's key, one path or several joined by commas, changes the compression or what only that uses.
bool is_of_compression(const std::string& key) {
  std::istringstream paths(key);
  for (std::string path; std::getline(paths, path, ',');) {
    for (const char* part : {"compress", "calibration", "arithmetic"}) {
      if (path.starts_with(part)) return true;
    }
  }
  return false;
}

/// Adds in front what everything is compared with: the same fine-tuning and evaluation, nothing compressed, once for
/// each combination of what else the grid varies, for example seeds.
void add_baselines(const Json& config, std::vector<Cell>& cells) {
  Json baseline = config;
  baseline["compress"] = Json::array();
  baseline.erase("calibration");
  baseline.erase("grid");
  for (const auto& [key, values] : config.value("grid", Json::object()).items()) {
    if (!is_of_compression(key)) baseline["grid"][key] = values;
  }
  std::vector<Cell> baselines = expand_grid(baseline);
  for (Cell& cell : baselines) {
    cell.name = baseline.contains("grid") ? cat(kBaseline, ",", cell.name) : kBaseline;
    cell.overrides["compress"] = Json::array();
  }
  cells.insert(cells.begin(), std::make_move_iterator(baselines.begin()), std::make_move_iterator(baselines.end()));
}

bool take_baseline(Json& config) {
  const auto found = config.find(kBaseline);
  if (found == config.end()) return false;
  if (!found->is_boolean()) throw ConfigError(cat("baseline: expected true or false, found ", found->dump()));
  const bool wanted = found->get<bool>();
  config.erase(kBaseline);
  return wanted;
}

CellPlan plan_cell(Cell cell, const std::string& experiment) {
  CellPlan plan;
  plan.name = std::move(cell.name);
  plan.config = std::move(cell.config);
  plan.overrides = std::move(cell.overrides);
  Json expanded = plan.config;
  expand_environment(expanded);
  read_fields(expanded, "", plan.options);
  plan.options.name = experiment;
  plan.options.validate();
  plan.geometry = load_geometry(plan.options.model.path);
  for (std::size_t i = 0; i < plan.options.compress.size(); ++i) {
    const std::string path = cat("compress[", i, "]");
    plan.passes.push_back(Registry<Pass>::instance().make(plan.options.compress[i], path));
    plan.compression = plan.passes.back()->plan(plan.geometry);
    if (plan.passes.back()->needs_statistics() && !plan.options.calibration) {
      throw ConfigError(cat(path, ": this pass measures statistics on data; state it under `calibration`"));
    }
  }
  plan.record = std::filesystem::path(plan.options.results) / experiment / (plan.name + ".h5");
  return plan;
}

}  // namespace

Json resolve_experiment(const std::filesystem::path& file, const ConfigOverrides& overrides) {
  Json config = resolve_config(file);
  for (const std::string& assignment : overrides.set) apply_set(config, assignment);
  for (const std::string& assignment : overrides.grid) add_grid(config, assignment);
  return config;
}

ExperimentPlan plan_experiment(const std::filesystem::path& file, const ConfigOverrides& overrides) {
  Json config = resolve_experiment(file, overrides);
  ExperimentPlan plan;
  plan.name = config.value("name", file.stem().string());
  const bool baseline = take_baseline(config);
  std::vector<Cell> cells = expand_grid(config);
  if (baseline) add_baselines(config, cells);
  for (Cell& cell : cells) {
    const std::string name = cell.name;
    try {
      plan.cells.push_back(plan_cell(std::move(cell), plan.name));
    } catch (const ConfigError& error) {
      throw ConfigError(cat(file.string(), cells.size() > 1 ? cat(" (cell ", name, ")") : "", ": ", error.what()));
    }
  }
  return plan;
}

}  // namespace mla
