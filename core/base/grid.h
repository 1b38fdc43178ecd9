// Grids: one config with lists of values becomes one config per combination.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/base/json.h"

namespace mla {

/// One point of a grid.
struct Cell {
  std::string
      name;  ///< "rope.name=high,d_kv=8": unique within the grid and fit for a file name; "default" without a grid
  Json overrides;  ///< {"compress[0].rope.name": "high", …}: what distinguishes this cell, in the order of the grid
  Json config;     ///< the whole config with the overrides applied and without "grid"
};

/// The cells of `config["grid"]`, an object from config paths to lists of values:
///
///   "grid": {"compress[0].rope.name": ["high", "low"], "train.seed,data.seed": [[1, 1], [2, 2]]}
///
/// All combinations, the last key varying fastest, in the order written. A key of several paths joined by commas sets
/// them jointly: each of its values is a list with one entry per path. A cell's name is made of the shortest tails of
/// the paths that tell them apart.
/// Throws ConfigError for an empty or ill-formed list, a value given twice, and a path that does not fit the config.
std::vector<Cell> expand_grid(const Json& config);

/// Carries out `--grid a.b=1,2,3`: adds a key to config["grid"], or replaces the one of that name. Values as in --set;
/// commas within brackets, braces and quotes do not separate.
void add_grid(Json& config, std::string_view assignment);

}  // namespace mla
