// The passes that a config lists, each planned on what those before it leave.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/base/json.h"
#include "core/compress/pass.h"

namespace mla {

/// One pass in its place.
struct PlannedPass {
  std::string name;  ///< registered
  std::string path;  ///< where the config states it, "compress[0]"
  Json config;       ///< {"name": …, options}
  std::unique_ptr<Pass> pass;
  ModelSpec before, after;
};

/// Constructs the passes of a list [{"name": …}, …] and plans them one after another on a model of `spec`.
/// Throws ConfigError naming `path` and the pass for anything that does not fit.
std::vector<PlannedPass> plan_passes(const Json& list, const std::string& path, const ModelSpec& spec);

/// The model after all of them.
const ModelSpec& planned_spec(const std::vector<PlannedPass>& passes, const ModelSpec& spec);

/// What all passes together did to each layer of `after` that comes from one of the published model: of each kind of
/// finding the last pass's that has it.
std::vector<LayerReport> combine_reports(const std::vector<PassReport>& reports);

/// What a pass, or several together, did to each layer and to the whole model, without times: for records and reports.
/// `layers`: one for each layer of `after`.
Json report_json(const std::string& pass, const std::vector<LayerReport>& layers, const ModelSpec& before,
                 const ModelSpec& after);

/// The same of each report.
Json report_json(const std::vector<PassReport>& reports);

}  // namespace mla
