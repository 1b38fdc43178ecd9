// The model that a GGUF file's metadata describe, as the config.json of the
// family says it.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "core/base/json.h"
#include "core/gguf/file.h"

namespace mla {

/// A config.json with the same sizes, norms, rotary embedding, tying, biases
/// and end tokens. Architectures: llama (with a sliding window: Mistral's),
/// qwen2, qwen3. Throws DataError naming file and key for another architecture,
/// for what the decoder cannot compute, and for a key that may change the
/// model's function and is not understood.
Json gguf_config(const gguf::File &file);

/// The keys of the metadata that have no effect here, each with the reason.
std::vector<std::pair<std::string, std::string>>
passed_over_gguf_keys(const gguf::File &file);

/// Whether files of this family (a name of `model_type`) hold the rows of
/// queries and keys with the two dims of a rotated pair beside each other,
/// where Hugging Face's have them half a head apart.
bool has_interleaved_rows(const std::string &family);

/// The tensor of rotation factors by pair; beside the weights, and part of the
/// description.
inline constexpr const char *kGgufRopeFactors = "rope_freqs.weight";

} // namespace mla
