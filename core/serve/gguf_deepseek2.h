// Converted models as GGUF files of llama.cpp's architecture deepseek2.
#pragma once

#include <string>

#include "core/serve/deepseek_form.h"
#include "core/serve/gguf_tensors.h"

namespace mla {

/// Gives `form` the norm on the latent that suits the file (IdentityNorm), and adds the keys of the architecture and
/// all tensors; queries and up-projections of keys stand per head, the latter transposed, as llama.cpp takes them in
/// without expanding the cache. `form` must live until the file is written. `largest_latent`: the largest root mean
/// square of a token's latent. Throws ConfigError, WHERE in front, with the reason and the nearest thing that can be
/// written, for biases, and for rotated frequencies that are no ladder.
void add_deepseek2_gguf(DeepSeekForm& form, double largest_latent, const std::string& where, gguf::Writer& writer,
                        GgufTensors& tensors);

}  // namespace mla
