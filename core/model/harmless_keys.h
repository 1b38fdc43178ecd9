// Keys of published config.json files that say nothing about the function computed from weights and tokens.
#pragma once

#include <string>

namespace mla {

/// Why `key` of a config.json may be passed over; empty for a key that is not known to be harmless.
std::string harmless_reason(const std::string& key);

/// The same for a key of rope_scaling or rope_parameters.
std::string harmless_rope_reason(const std::string& key);

}  // namespace mla
