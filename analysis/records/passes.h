// What a record's config says of the passes that compress its model.
#pragma once

#include <string>

#include "core/base/json.h"

namespace mla {

/// The pass that compresses the model; null where there is none. Several, in `compress` or in stages, are described in
/// `room` as one, "merge_layers + mha2mla", that has the last of each strategy.
const Json& pass_of(const Json& config, Json& room);

/// The value of `part`.`key` in a pass, whatever else may stand there; null where it is absent.
Json text_at(const Json& value, const char* part, const char* key);

/// The text "name" of an object; empty for whatever else a config may have in its place.
std::string name_in(const Json& value);

/// "two_norm r=2" and "joint_svd d_kv=8": a strategy's name and what sizes it.
Json strategy_text(const Json& pass, const char* part, const char* size, const char* label);

/// "kv_heads kv_heads=1 method=svd": a pass's name and its options that are single values.
std::string options_text(const Json& pass);

}  // namespace mla
