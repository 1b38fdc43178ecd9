// A model's tokenizer as the metadata of a GGUF file that is written.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "core/gguf/writer.h"
#include "core/text/gguf_vocabulary.h"

namespace mla {

/// The tokens of a tokenizer in the forms that GGUF has.
struct GgufTokens {
  std::string model;                 ///< "gpt2": byte-level BPE; "llama": merges by score
  std::string pre;                   ///< of "gpt2": how text is cut
  std::vector<std::string> tokens;   ///< by id; empty for ids that are not used
  std::vector<GgufTokenType> types;  ///< as many
  std::vector<std::string> merges;   ///< of "gpt2"
  std::vector<float> scores;         ///< of "llama", as many as tokens
  std::optional<std::int32_t> bos, eos, unknown, padding;
  bool add_bos = false, add_eos = false;
  bool add_space_prefix = false;     ///< of "llama": a space is put before a text
  bool remove_extra_spaces = false;  ///< of "llama"
  std::string chat_template;         ///< empty: none
};

/// What the tokenizer at `path` (load_tokenizer() says what that may be, but for GGUF files) is in these forms. Throws
/// DataError, naming file and reason, for one that neither form can hold: a way to cut text, a normalizer or a kind of
/// model that llama.cpp has no name for, or other tokens around a text than BOS and EOS.
GgufTokens gguf_tokens_of(const std::filesystem::path& path);

/// Adds the keys tokenizer.* for the tokenizer at `path`, of another GGUF file as they stand there, for a model with
/// `vocabulary` embeddings: ids that no token has become unused tokens, and tokens that have no embedding are left out.
/// `ends`: ids that end a text, of the model's description; those besides EOS end a turn (eot, eom). Throws as
/// gguf_tokens_of() does, and for a file whose tokenizer has another size.
void add_gguf_tokenizer(const std::filesystem::path& path, std::int64_t vocabulary,
                        const std::vector<std::int64_t>& ends, gguf::Writer& writer);

/// Says that there is no tokenizer: the model takes and gives ids alone.
void add_no_gguf_tokenizer(gguf::Writer& writer);

}  // namespace mla
