// The special tokens that a tokenizer puts around a text.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/base/json.h"

namespace mla {

/// Token ids before and after the text.
struct Surroundings {
  std::vector<std::int32_t> before, after;
};

/// The `post_processor` of a tokenizer.json, for one sequence. Throws DataError naming an unsupported type.
Surroundings read_post_processor(const LargeJson& json, const std::string& where);

}  // namespace mla
