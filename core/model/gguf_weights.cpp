#include "core/model/gguf_weights.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <array>
#include <optional>

#include "core/attention/block_weights.h"
#include "core/base/error.h"
#include "core/base/suggest.h"
#include "core/model/gguf_config.h"
#include "core/model/gguf_deepseek2.h"
#include "core/model/rotary_rows.h"

namespace mla {
namespace {

struct NamePair {
  const char *ours, *theirs;
};
/// Outside of blocks, and within them.
constexpr std::array<NamePair, 3> kGgufWhole = {
    {{"model.embed_tokens", "token_embd"},
     {"model.norm", "output_norm"},
     {"lm_head", "output"}}};
constexpr std::array<NamePair, 11> kGgufInBlock = {
    {{"input_layernorm", "attn_norm"},
     {"self_attn.q_proj", "attn_q"},
     {"self_attn.k_proj", "attn_k"},
     {"self_attn.v_proj", "attn_v"},
     {"self_attn.o_proj", "attn_output"},
     {"self_attn.q_norm", "attn_q_norm"},
     {"self_attn.k_norm", "attn_k_norm"},
     {"post_attention_layernorm", "ffn_norm"},
     {"mlp.gate_proj", "ffn_gate"},
     {"mlp.up_proj", "ffn_up"},
     {"mlp.down_proj", "ffn_down"}}};
constexpr std::string_view kOurBlocks = "model.layers.";

template <std::size_t kCount>
std::string renamed(const std::array<NamePair, kCount> &names,
                    const std::string &ours) {
  const std::size_t dot = ours.rfind('.');
  for (const NamePair &pair : names) {
    if (ours.compare(0, dot, pair.ours) == 0)
      return pair.theirs + ours.substr(dot);
  }
  throw std::logic_error(cat("no name in GGUF files for ", ours));
}

std::optional<at::ScalarType> plain_type(const gguf::ElementType &type) {
  const std::string_view name = type.name;
  if (name == "F32")
    return at::kFloat;
  if (name == "F16")
    return at::kHalf;
  if (name == "BF16")
    return at::kBFloat16;
  if (name == "F64")
    return at::kDouble;
  return std::nullopt;
}

at::Tensor view_of(const std::shared_ptr<const gguf::File> &file,
                   const gguf::Tensor &tensor, at::ScalarType type) {
  return at::from_blob(
      const_cast<std::byte *>(tensor.data), tensor.shape, [file](void *) {},
      at::TensorOptions(type));
}

at::Tensor dequantized(const gguf::Tensor &tensor) {
  at::Tensor result = at::empty(tensor.shape, at::kFloat);
  float *values = result.mutable_data_ptr<float>();
  const gguf::ElementType &type = *tensor.type;
  constexpr std::int64_t kBlocksAtOnce = 256;
  at::parallel_for(
      0, tensor.count() / type.block, kBlocksAtOnce,
      [&](std::int64_t begin, std::int64_t end) {
        gguf::dequantize(
            type, tensor.data + static_cast<std::size_t>(begin) * type.bytes,
            (end - begin) * type.block, values + begin * type.block);
      });
  return result;
}

/// No memory stands behind it.
at::Tensor shape_only(const gguf::Tensor &tensor) {
  const at::ScalarType type = plain_type(*tensor.type).value_or(at::kFloat);
  return at::zeros({}, type).expand(tensor.shape);
}

bool is_rotated(const std::string &ours) {
  return ours.find(".q_proj.") != std::string::npos ||
         ours.find(".k_proj.") != std::string::npos;
}

/// Rows of blocks, as they lie in the file.
at::Tensor block_rows(const std::shared_ptr<const gguf::File> &file,
                      const gguf::Tensor &tensor) {
  const std::int64_t rows = tensor.shape.front();
  return at::from_blob(
      const_cast<std::byte *>(tensor.data),
      {rows, static_cast<std::int64_t>(tensor.bytes) / rows}, [file](void *) {},
      at::TensorOptions(at::kByte));
}

/// The matrix as its storage holds it.
at::Tensor read_panels(const std::shared_ptr<const gguf::File> &file,
                       const gguf::Tensor &tensor,
                       const ModelParameter &parameter, bool values,
                       std::int64_t head_dim) {
  if (!values)
    return at::zeros({}, at::kByte)
        .expand(parameter.storage->parts(parameter.matrix()).front().shape);
  const at::Tensor blocks = block_rows(file, tensor);
  return to_panels(*find_block_format(tensor.type->name),
                   head_dim > 0 ? to_half_split(blocks, head_dim) : blocks);
}

at::Tensor read_tensor(const std::shared_ptr<const gguf::File> &file,
                       const gguf::Tensor &tensor, bool values) {
  if (!values)
    return shape_only(tensor);
  const auto plain = plain_type(*tensor.type);
  return plain ? view_of(file, tensor, *plain) : dequantized(tensor);
}

/// The tensors of a file by name, and which of them were asked for.
class FileTensors {
public:
  explicit FileTensors(const gguf::File &file) : file_(file) {
    for (const gguf::Tensor &tensor : file.tensors())
      tensors_.emplace(tensor.name, &tensor);
    left_ = tensors_;
  }

  const gguf::Tensor &take(const std::string &name,
                           const std::vector<std::int64_t> &shape) {
    const std::string where = cat(file_.path().string(), ": tensor ", name);
    const auto found = tensors_.find(name);
    if (found == tensors_.end())
      throw DataError(cat(where, " is missing"));
    left_.erase(name);
    const gguf::Tensor &tensor = *found->second;
    if (tensor.shape != shape) {
      throw DataError(cat(where, ": expected shape ", at::IntArrayRef(shape),
                          ", found ", at::IntArrayRef(tensor.shape)));
    }
    if (!tensor.type->floating_point)
      throw DataError(
          cat(where, ": expected floating point, found ", tensor.type->name));
    return tensor;
  }

  const std::map<std::string, const gguf::Tensor *> &left() const {
    return left_;
  }

private:
  const gguf::File &file_;
  std::map<std::string, const gguf::Tensor *> tensors_, left_;
};

/// What the model has no place for would silently be left out of its function.
void refuse_leftovers(const gguf::File &file,
                      const std::map<std::string, const gguf::Tensor *> &left) {
  for (const auto &[name, tensor] : left) {
    if (name == kGgufRopeFactors)
      continue; // read with the description
    std::vector<std::string> known;
    for (const NamePair &pair : kGgufWhole)
      known.emplace_back(pair.theirs);
    for (const NamePair &pair : kGgufInBlock)
      known.push_back(cat("blk.N.", pair.theirs));
    throw DataError(
        cat(file.path().string(), ": tensor ", brief_text(name),
            " has no place in the model that the metadata describe; known: ",
            join(known)));
  }
}

} // namespace

std::string gguf_name(const std::string &ours) {
  if (!ours.starts_with(kOurBlocks))
    return renamed(kGgufWhole, ours);
  const std::size_t dot = ours.find('.', kOurBlocks.size());
  return cat("blk.", ours.substr(kOurBlocks.size(), dot - kOurBlocks.size()),
             ".", renamed(kGgufInBlock, ours.substr(dot + 1)));
}

ModelSpec with_gguf_storage(const gguf::File &file, ModelSpec spec) {
  std::map<std::string, const BlockFormat *> formats;
  for (const gguf::Tensor &tensor : file.tensors()) {
    if (const BlockFormat *format = find_block_format(tensor.type->name))
      formats.emplace(tensor.name, format);
  }
  const bool latent = is_deepseek2(file);
  bool any = false;
  for (const ModelParameter &parameter : model_parameters(spec)) {
    const bool as_it_is =
        parameter.is_matrix() &&
        !(latent && is_rearranged_in_deepseek2(parameter.name));
    const auto found =
        as_it_is ? formats.find(gguf_name(parameter.name)) : formats.end();
    if (found == formats.end())
      continue;
    set_storage(spec, parameter.map_name(), block_storage(*found->second));
    any = true;
  }
  if (!any) {
    throw ConfigError(cat("weights = packed: ", file.path().string(), " holds ",
                          gguf_types(file), ", and only blocks of ",
                          block_format_names(), " are kept packed"));
  }
  return spec;
}

WeightMap read_gguf_weights(const std::shared_ptr<const gguf::File> &file,
                            const ModelSpec &spec, bool values) {
  const bool latent = is_deepseek2(*file),
             interleaved = !latent && has_interleaved_rows(spec.family);
  FileTensors tensors(*file);
  WeightMap weights;
  for (const ModelParameter &parameter : model_parameters(spec)) {
    if (latent && is_rearranged_in_deepseek2(parameter.name))
      continue;
    const gguf::Tensor &tensor =
        tensors.take(gguf_name(parameter.name), parameter.shape);
    const bool mixed = interleaved && is_rotated(parameter.name);
    if (parameter.storage) {
      weights.emplace(parameter.map_name() + ".blocks",
                      read_panels(file, tensor, parameter, values,
                                  mixed ? spec.rope_dim : 0));
      continue;
    }
    at::Tensor weight = read_tensor(file, tensor, values);
    if (values && mixed)
      weight = to_half_split(weight, spec.rope_dim);
    weights.emplace(parameter.name, std::move(weight));
  }
  if (latent) {
    const TakeGgufTensor take = [&](const std::string &name,
                                    const std::vector<std::int64_t> &shape) {
      return read_tensor(file, tensors.take(name, shape), values);
    };
    read_deepseek2_attention(*file, spec, values, take, weights);
  }
  refuse_leftovers(*file, tensors.left());
  return weights;
}

std::string gguf_types(const gguf::File &file) {
  std::map<std::string, int> counts;
  for (const gguf::Tensor &tensor : file.tensors())
    ++counts[tensor.type->name];
  std::vector<std::pair<int, std::string>> sorted;
  for (const auto &[name, count] : counts)
    sorted.emplace_back(-count, cat(name, " (", count, ")"));
  std::sort(sorted.begin(), sorted.end());
  std::vector<std::string> names;
  for (const auto &[count, name] : sorted)
    names.push_back(name);
  return join(names);
}

} // namespace mla
