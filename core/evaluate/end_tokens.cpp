#include "core/evaluate/end_tokens.h"

namespace mla {

std::vector<std::int64_t> end_tokens(const ModelSpec& spec, const Tokenizer& tokenizer) {
  if (!spec.ends.empty()) return spec.ends;
  if (const auto eos = tokenizer.eos()) return {*eos};
  return {};
}

}  // namespace mla
