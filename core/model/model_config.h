// config.json of any model, converted or not: read into the model's description, and written from it.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "core/base/json.h"
#include "core/model/model_spec.h"

namespace mla {

/// Dimensions of a stored tensor by its name, 0 where it is not there.
using StoredDimensions = std::function<std::int64_t(const std::string& name)>;

/// The model that a config.json object states. A converted one is that of a published family, with a "latent_attention"
/// object whose "layers" has an entry for each layer: null for the family's own attention, or an object with the
/// "kind" of attention (absent: latent), those of its fields that differ from the family's layer, and where they differ
/// "source_layer", "intermediate" and "mlp_bias". Linear maps that are not dense stand in its "weight_storage", a list
/// of forms of storage, {"name": …, its fields, "maps": [names]}. Format 1 knows latent layers alone and does not say
/// whether QK-norm weights are one for each head: `stored` tells, and may be empty where no weights are at hand. Throws
/// DataError naming `name`, the layer and the key.
ModelSpec read_model_config(const Json& config, const std::string& name, const StoredDimensions& stored = {});

/// `config` (of the model that this one was made from, or an object with its model_type) changed to state `spec`. A
/// converted model gets a model type of its own, so that no other library loads it as what it no longer is. What is
/// written is read back and compared. `name` stands for the config in errors.
Json write_model_config(const ModelSpec& spec, Json config, const std::string& name);

/// The keys of a config.json that have no effect here, each with the reason; rope_scaling's as "rope_scaling.KEY".
/// Throws DataError as read_model_config does.
std::vector<std::pair<std::string, std::string>> passed_over_model_keys(const Json& config, const std::string& name);

}  // namespace mla
