// What a cell is known by: equal identity, equal numbers.
#pragma once

#include <string>

#include "core/base/json.h"
#include "experiments/cell/session.h"
#include "experiments/config/experiment_config.h"
#include "experiments/plan/plan.h"

namespace mla {

/// A cell's identity as hashes, which records, states and plans name.
struct CellIdentity {
  std::string hash;
  /// The same by the rule of records before numerics version 2, which hashed the config as it was written; empty where
  /// that rule did not tell this cell from every other (environment variables that are no paths, tokenizers apart).
  std::string earlier;

  /// Whether a record of this content is one of this cell.
  bool names(const std::string& content_hash) const {
    return content_hash == hash || (!earlier.empty() && content_hash == earlier);
  }
};

/// Every value of the config that differs from its default and can change a number, environment variables expanded,
/// and the hashes of all files that are read, which stand for their paths. The program is not in it: records keep its
/// numerics version and commit beside.
CellIdentity identify(const CellPlan& cell, Session& session);

/// Whether `written` and `expanded`, the same config before and after its environment variables were replaced, differ
/// in nothing but paths, for which hashes of contents stand, and names.
bool differ_in_paths_alone(const Json& written, const Json& expanded);

}  // namespace mla
