// The way of latent attention, as options name it.
#pragma once

#include <string>
#include <vector>

#include "core/attention/attention.h"
#include "core/base/error.h"
#include "core/base/suggest.h"

namespace mla {

/// auto, absorbed or expanded. Throws ConfigError naming `option` for anything else.
inline DecodePath parse_decode_path(const std::string& name, const std::string& option) {
  std::vector<std::string> known;
  for (const auto& [path_name, path] : enum_names(DecodePath{})) {
    if (name == path_name) return path;
    known.push_back(path_name);
  }
  throw ConfigError(cat(option, ": ", unknown_name(name, known)));
}

}  // namespace mla
