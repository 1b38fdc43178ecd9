// The ways to cut text that files of byte-level BPE name (tokenizer.ggml.pre), as components of a tokenizer.json.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/json.h"

namespace mla {

inline constexpr const char* kDefaultGgufCut = "default";

struct GgufCut {
  const char* name;
  LargeJson (*pre_tokenizer)();
  bool ignore_merges = false;  ///< a word that is a token needs no merges
  bool adds_bos = false;       ///< where the file does not say
  bool composes = false;       ///< Unicode's NFC before anything else, as the models' own tokenizers have it
};

/// Null for a name that is not known.
const GgufCut* find_gguf_cut(std::string_view name);
std::vector<std::string> gguf_cut_names();

/// The one that cuts as a tokenizer.json does which has this `pre_tokenizer`, `normalizer` and `ignore_merges`; null
/// where none does.
const GgufCut* gguf_cut_of(const LargeJson& pre_tokenizer, const LargeJson& normalizer, bool ignore_merges);

/// ByteLevel as GPT-2 has it: also the decoder of every byte-level vocabulary.
LargeJson cut_as_gpt2_does();

}  // namespace mla
