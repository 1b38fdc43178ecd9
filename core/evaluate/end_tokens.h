// Which tokens end a text that a model writes.
#pragma once

#include <cstdint>
#include <vector>

#include "core/model/model_spec.h"
#include "core/text/tokenizer.h"

namespace mla {

/// The ids that the model's files name (ModelSpec::ends), or else the tokenizer's EOS; none where neither has one.
std::vector<std::int64_t> end_tokens(const ModelSpec& spec, const Tokenizer& tokenizer);

}  // namespace mla
