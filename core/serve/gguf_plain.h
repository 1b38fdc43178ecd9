// Unconverted models as GGUF files of their own architectures: llama, qwen2, qwen3.
#pragma once

#include <string>

#include "core/model/decoder.h"
#include "core/serve/gguf_tensors.h"

namespace mla {

/// The architecture of files with this model: "llama" also for Mistral. Throws ConfigError, WHERE in front, with the
/// reason and the nearest thing that can be written, for a model that llama.cpp has no such architecture for: layers
/// that differ, sliding windows shorter than the context, scaled rotation that files cannot say, biases that the
/// architecture has no place for.
std::string plain_gguf_architecture(const ModelSpec& spec, const std::string& where);

/// Adds the keys of the architecture, without those of the file and the tokenizer, and all tensors. `decoder` must live
/// until the file is written.
void add_plain_gguf(const Decoder& decoder, const std::string& where, gguf::Writer& writer, GgufTensors& tensors);

/// Sizes and norm under the keys that all architectures have.
void add_common_gguf_keys(const ModelSpec& spec, const std::string& architecture, gguf::Writer& writer);

}  // namespace mla
