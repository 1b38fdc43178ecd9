// A small model as a GGUF file.
#pragma once

#include "core/model/checkpoint.h"
#include "tests/support/gguf_bytes.h"

namespace mla::test {

/// Keys and float32 tensors of a grouped-query model, as llama.cpp's converter writes them: rows of queries and keys
/// interleaved where the architecture is llama.
GgufBytes gguf_of(const Checkpoint& checkpoint);

}  // namespace mla::test
