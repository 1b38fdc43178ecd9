// The weights of a GGUF file under the names of Hugging Face.
#pragma once

#include <memory>
#include <string>

#include "core/gguf/file.h"
#include "core/model/model_spec.h"
#include "core/model/safetensors.h"

namespace mla {

/// `spec` with the storage of those matrices whose blocks products know as they
/// are in the file (block_weights.h). Throws ConfigError where there are none.
ModelSpec with_gguf_storage(const gguf::File &file, ModelSpec spec);

/// The tensors of `spec`, which is what the file itself states: plain numbers
/// as views of its memory map, blocks as float32, or as panels where the spec
/// has storage for them; rows of queries and keys in Hugging Face's order.
/// Without `values`, tensors of the right shapes and no memory, for looking at
/// shapes alone. Throws DataError naming the file's own tensor where one is
/// missing, has another shape or type, or has no place in the model.
WeightMap read_gguf_weights(const std::shared_ptr<const gguf::File> &file,
                            const ModelSpec &spec, bool values = true);

/// "blk.3.attn_q.weight" of "model.layers.3.self_attn.q_proj.weight": the name
/// in files of unconverted models.
std::string gguf_name(const std::string &ours);

/// How many tensors are held in which type, "Q4_1 (210), F32 (61), Q8_0 (1)".
std::string gguf_types(const gguf::File &file);

} // namespace mla
