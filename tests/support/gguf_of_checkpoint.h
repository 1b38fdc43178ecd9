// A small model as a GGUF file.
#pragma once

#include "core/model/checkpoint.h"
#include "tests/support/gguf_bytes.h"

namespace mla::test {

/// Keys and float32 tensors of a grouped-query model, as llama.cpp's converter writes them: rows of queries and keys
/// interleaved where the architecture is llama. `blocks`, Q8_0 or Q4_1: matrices with whole blocks in a row become
/// such.
GgufBytes gguf_of(const Checkpoint& checkpoint, const std::string& blocks = "");

}  // namespace mla::test
