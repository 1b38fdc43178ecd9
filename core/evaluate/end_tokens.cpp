#include "core/evaluate/end_tokens.h"

namespace mla {

std::vector<std::int64_t> end_tokens(const Geometry& geometry, const Tokenizer& tokenizer) {
  if (!geometry.ends.empty()) return geometry.ends;
  if (const auto eos = tokenizer.eos()) return {*eos};
  return {};
}

}  // namespace mla
