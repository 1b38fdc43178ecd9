// GGUF files of llama.cpp's architecture deepseek2 without experts: models of
// latent attention.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "core/base/json.h"
#include "core/gguf/file.h"
#include "core/model/config_reader.h"
#include "core/model/model_spec.h"
#include "core/model/safetensors.h"

namespace mla {

inline constexpr const char *kDeepSeek2 = "deepseek2";
bool is_deepseek2(const gguf::File &file);

/// The config.json of a model with layers of kind `latent`: one rotated key for
/// all heads, keys and values of each query head of their own. Throws DataError
/// naming the key for experts, queries of low rank, and rotation that is
/// scaled but linearly.
Json read_deepseek2_keys(ConfigReader &keys, const gguf::File &file);

/// What llama.cpp multiplies this architecture's logits by, besides 1 / sqrt of
/// their width, where frequencies are divided by `factor` (at least 1).
double deepseek2_logit_scale(double factor);

/// Whether files hold a weight of this name (Hugging Face's) in another
/// arrangement, so that read_deepseek2_attention() makes it.
bool is_rearranged_in_deepseek2(const std::string &name);

/// Gives a tensor of the file by its own name, its shape checked.
using TakeGgufTensor = std::function<at::Tensor(
    const std::string &name, const std::vector<std::int64_t> &shape)>;

/// The weights that is_rearranged_in_deepseek2() tells of, in the order and
/// units of LatentAttention. Throws DataError naming the tensor where the norm
/// on the latent is one that latents of this program do not have: it must
/// change nothing, as in files that `mlaforge export` writes. Without `values`,
/// tensors of the right shapes alone.
void read_deepseek2_attention(const gguf::File &file, const ModelSpec &spec,
                              bool values, const TakeGgufTensor &take,
                              WeightMap &weights);

} // namespace mla
