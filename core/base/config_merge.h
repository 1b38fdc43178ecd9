// Laying one config over another.
#pragma once

#include "core/base/json.h"

namespace mla {

/// Lays `over` on `under`: objects merge key by key, everything else replaces. A list is extended, and what is there
/// removed, by keys that say so:
///
///   "+evaluate": [{…}]          these entries after those of the list that is there
///   "-train": true              the key goes
///   "-evaluate": ["wikitext2"]  entries of a list go: equal values, or by their "name", or their "task" without one
///   "-grid": ["train.seed"]     keys of an object go
///
/// Removing comes before extending. Throws ConfigError naming the key where there is nothing to extend or remove, where
/// a name stands for several entries, and where one object says both "key" and "+key" or "-key".
void merge_config(Json& under, const Json& over);

}  // namespace mla
