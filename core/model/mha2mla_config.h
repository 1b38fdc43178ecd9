// Checkpoints of the official MHA2MLA code (github.com/JT-Ushio/MHA2MLA), read into layers of kind `latent`.
#pragma once

#include <filesystem>

#include "core/base/json.h"
#include "core/model/model_spec.h"

namespace mla {

/// Which of the two forms a config.json states: main's, an object "mha2mla" with the conversion's options, or release
/// 1.0.1's, objects "RoPE" and "SVD".
enum class Mha2MlaForm { kNone, kMain, kRelease };
Mha2MlaForm mha2mla_form(const Json& config);

/// How its keys and values are factored; ranks are elements of a latent.
enum class Mha2MlaFactors { kJoint, kSplit, kKeysAlone, kValuesAlone, kNone };
Mha2MlaFactors mha2mla_factors(const Json& config, const std::string& name);

/// The model that the config states, its kept pairs those of the stated strategy. Ranks of pairs by 2-norm are read
/// from the file that the config names, which must stand in `folder`, wherever it stood when the model was made. Throws
/// DataError naming the config's key, the value and what is read.
ModelSpec read_mha2mla_config(const Json& config, const std::filesystem::path& folder);

}  // namespace mla
