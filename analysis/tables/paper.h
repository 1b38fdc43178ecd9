// The paper's tables, and their numbers beside ours.
#pragma once

#include <string>
#include <vector>

#include "analysis/records/dimension.h"
#include "analysis/tables/table.h"

namespace mla {

/// The facts of data/paper/tables.json, which are compiled in: arXiv 2502.14837v1, tables 1 to 7.
const Json& paper_tables();

/// Puts the paper's row beneath each of ours with the same model and method, and the difference beneath both; the
/// paper's other rows follow where its tasks were measured. `examples` has an observation for each row of `table`.
/// `model`: a model of the paper's beside whose rows all of ours stand, whatever their own, and whose rows alone are
/// shown; empty: of the same name.
/// Throws ConfigError for an unknown table or model.
void add_paper(Table& table, const std::vector<Observation>& examples, const std::string& name,
               const std::string& model = "");

/// Table configs that are compiled in (configs/tables), by name: the paper's tables and the usual one of a sweep.
const std::vector<std::string>& preset_names();
/// Throws ConfigError for an unknown name.
Json preset(const std::string& name);

}  // namespace mla
