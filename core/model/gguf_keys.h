// Keys that all architectures of GGUF files have, read into a config.json.
#pragma once

#include <string>
#include <string_view>

#include "core/base/json.h"
#include "core/gguf/file.h"
#include "core/model/config_reader.h"

namespace mla {

bool has_gguf_tensor(const gguf::File &file, std::string_view name);

/// Sets vocab_size, hidden_size, intermediate_size, num_hidden_layers,
/// num_attention_heads and max_position_embeddings. Rows of the embedding are
/// the vocabulary, which older files do not state. `prefix` stands before the
/// keys: "llama.".
void add_gguf_sizes(ConfigReader &keys, const std::string &prefix,
                    const gguf::File &file, Json &config);

/// Sets rms_norm_eps, tie_word_embeddings, and the ids that begin and end a
/// text; a turn of a chat ends one, too, as in llama.cpp.
void add_gguf_norm_and_ends(ConfigReader &keys, const std::string &prefix,
                            const gguf::File &file, Json &config);

/// Refuses what would make a model another function than that of a plain dense
/// decoder, whatever its attention.
void refuse_other_gguf_functions(ConfigReader &keys, const std::string &prefix);

} // namespace mla
