// Reading llama2.c model files (version 0, the `.bin` of llama2.c's first format).
#pragma once

#include <filesystem>

#include "core/model/model_spec.h"
#include "core/model/safetensors.h"

namespace mla {

/// The model that the file's header states: seven int32 (hidden, intermediate, layers, heads, KV heads, vocabulary,
/// context). A negative vocabulary says that the output matrix is stored apart. Norm epsilon 1e-5 and theta 10000 are
/// llama2.c's. Throws DataError when the header makes no sense or the file has another size than it asks for.
ModelSpec read_llama2c_spec(const std::filesystem::path& path);

/// The weights under Hugging Face names, float32. llama2.c rotates neighbouring dims (2k, 2k + 1); rows of queries and
/// keys are put into the half-split order (k, k + head_dim / 2). The file's frequency tables are skipped.
WeightMap read_llama2c_weights(const std::filesystem::path& path);

}  // namespace mla
