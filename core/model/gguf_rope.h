// The rotary embedding that a GGUF file states.
#pragma once

#include <string>

#include "core/base/json.h"
#include "core/gguf/file.h"
#include "core/model/config_reader.h"

namespace mla {

/// Adds rope_theta and rope_scaling to `config`, whose sizes are there already: scaling by keys (linear, yarn), or by
/// the factors of the tensor rope_freqs.weight where they are those of Llama 3's rule. `prefix` stands before the keys:
/// "llama.". Throws DataError for other scalings.
void add_gguf_rope(ConfigReader& keys, const std::string& prefix, const gguf::File& file, Json& config);

}  // namespace mla
