#include "core/model/llama2c.h"

#include <ATen/ATen.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "core/base/error.h"
#include "core/base/file.h"

namespace mla {
namespace {

constexpr std::size_t kHeaderInts = 7;
constexpr std::size_t kHeaderBytes = kHeaderInts * sizeof(std::int32_t);

std::size_t expected_floats(const Geometry& g) {
  const std::int64_t kv = g.kv_heads * g.head_dim;
  const std::int64_t per_layer =
      2 * g.hidden + 2 * g.hidden * g.hidden + 2 * g.hidden * kv + 3 * g.hidden * g.intermediate;
  const std::int64_t tables = 2 * g.max_positions * (g.head_dim / 2);
  const std::int64_t output = g.tied_embeddings ? 0 : g.vocabulary * g.hidden;
  return static_cast<std::size_t>(g.vocabulary * g.hidden + g.layers * per_layer + g.hidden + tables + output);
}

Geometry parse_header(const MappedFile& file) {
  const std::string name = file.path().string();
  if (file.size() < kHeaderBytes)
    throw DataError(cat(name, ": truncated: ", file.size(), " bytes, no llama2.c header"));
  std::array<std::int32_t, kHeaderInts> header{};
  std::memcpy(header.data(), file.data(), kHeaderBytes);
  constexpr std::int32_t kLargest = 1 << 24;
  for (std::size_t i = 0; i < kHeaderInts; ++i) {
    const std::int32_t value = i == 5 ? std::abs(header[i]) : header[i];
    if (value <= 0 || value > kLargest)
      throw DataError(cat(name, ": not a llama2.c (version 0) file: header value ", i, " is ", header[i]));
  }
  Geometry g;
  g.family = "llama";
  g.hidden = header[0];
  g.intermediate = header[1];
  g.layers = header[2];
  g.heads = header[3];
  g.kv_heads = header[4];
  g.vocabulary = std::abs(header[5]);
  g.tied_embeddings = header[5] > 0;
  g.max_positions = header[6];
  g.norm_epsilon = 1e-5;
  g.bos = 1;
  g.eos = 2;
  if (g.hidden % g.heads != 0 || g.heads % g.kv_heads != 0 || (g.hidden / g.heads) % 2 != 0) {
    throw DataError(cat(name, ": not a llama2.c (version 0) file: hidden ", g.hidden, ", heads ", g.heads,
                        ", KV heads ", g.kv_heads));
  }
  g.head_dim = g.hidden / g.heads;
  const std::size_t needed = kHeaderBytes + sizeof(float) * expected_floats(g);
  if (file.size() != needed) {
    throw DataError(cat(name, ": the header asks for ", needed, " bytes, the file has ", file.size(), ": truncated?"));
  }
  return g;
}

/// Hands out consecutive tensors of the file as views of its map.
class Cursor {
 public:
  explicit Cursor(std::shared_ptr<MappedFile> file) : file_(std::move(file)), at_(kHeaderBytes) {}
  at::Tensor next(std::vector<std::int64_t> shape) {
    std::size_t count = 1;
    for (std::int64_t size : shape) count *= static_cast<std::size_t>(size);
    void* data = const_cast<std::byte*>(file_->data() + at_);
    at_ += count * sizeof(float);
    return at::from_blob(
        data, shape, [file = file_](void*) {}, at::TensorOptions(at::kFloat));
  }

 private:
  std::shared_ptr<MappedFile> file_;
  std::size_t at_;
};

/// Rows (2k, 2k + 1) of each head -> rows k and k + head_dim / 2.
at::Tensor to_half_split(const at::Tensor& weight, std::int64_t head_dim) {
  const std::int64_t columns = weight.size(1);
  return weight.view({-1, head_dim / 2, 2, columns}).transpose(1, 2).reshape({-1, columns});
}

}  // namespace

Geometry read_llama2c_geometry(const std::filesystem::path& path) { return parse_header(MappedFile(path)); }

WeightMap read_llama2c_weights(const std::filesystem::path& path) {
  auto file = std::make_shared<MappedFile>(path);
  const Geometry g = parse_header(*file);
  const std::int64_t kv = g.kv_heads * g.head_dim;
  Cursor cursor(std::move(file));
  WeightMap weights;
  weights["model.embed_tokens.weight"] = cursor.next({g.vocabulary, g.hidden});
  // The file holds each kind of weight for all layers together.
  const auto by_layer = [&](const std::string& name, std::vector<std::int64_t> shape, bool rotated = false) {
    shape.insert(shape.begin(), g.layers);
    const at::Tensor all = cursor.next(shape);
    for (std::int64_t i = 0; i < g.layers; ++i) {
      weights[cat("model.layers.", i, ".", name, ".weight")] = rotated ? to_half_split(all[i], g.head_dim) : all[i];
    }
  };
  by_layer("input_layernorm", {g.hidden});
  by_layer("self_attn.q_proj", {g.hidden, g.hidden}, true);
  by_layer("self_attn.k_proj", {kv, g.hidden}, true);
  by_layer("self_attn.v_proj", {kv, g.hidden});
  by_layer("self_attn.o_proj", {g.hidden, g.hidden});
  by_layer("post_attention_layernorm", {g.hidden});
  by_layer("mlp.gate_proj", {g.intermediate, g.hidden});
  by_layer("mlp.down_proj", {g.hidden, g.intermediate});
  by_layer("mlp.up_proj", {g.intermediate, g.hidden});
  weights["model.norm.weight"] = cursor.next({g.hidden});
  cursor.next({2, g.max_positions, g.head_dim / 2});
  if (!g.tied_embeddings) weights["lm_head.weight"] = cursor.next({g.vocabulary, g.hidden});
  return weights;
}

}  // namespace mla
