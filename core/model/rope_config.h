// The rotary embedding that a config.json states.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "core/model/config_reader.h"
#include "core/model/model_spec.h"

namespace mla {

/// Fills in theta and scaling of `frame`, whose sizes are there already. Both styles are read: rope_theta beside
/// rope_scaling, or everything inside rope_parameters; where both are there, rope_scaling counts, as in transformers.
/// Throws DataError for parameters for which transformers defines no frequencies, and for those that give none that are
/// finite. Adds to `passed_over` what is harmless in them, with the reason.
/// `defaults` are the family's: with a base for layers with windows, that is rope_local_base_freq, or rope_parameters
/// holds a section for each type of layers, full_attention and sliding_attention.
void read_rotary(ConfigReader& config, ModelFrame& frame,
                 std::vector<std::pair<std::string, std::string>>* passed_over = nullptr,
                 const RopeDefaults& defaults = {});

/// States them: rope_theta beside rope_scaling, which is left out where nothing is scaled.
void write_rotary(const ModelFrame& frame, Json& config);

}  // namespace mla
