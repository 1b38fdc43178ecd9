#include "core/model/llama2c.h"

#include <ATen/ATen.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>

#include "core/base/error.h"
#include "core/base/file.h"

namespace mla {
namespace {

constexpr std::size_t kHeaderInts = 7, kVocabularyAt = 5;
constexpr std::size_t kHeaderBytes = kHeaderInts * sizeof(std::int32_t);

/// Sums and products that cannot wrap: once the true value leaves 64 bits, it is too large for ever.
class Count {
 public:
  Count(std::int64_t value) : value_(value) {}
  Count operator+(Count other) const { return of(other, &add); }
  Count operator*(Count other) const { return of(other, &multiply); }
  /// The value, or nothing where it is too large.
  std::optional<std::int64_t> value() const { return value_; }

 private:
  Count() = default;
  static bool add(std::int64_t a, std::int64_t b, std::int64_t* c) { return __builtin_add_overflow(a, b, c); }
  static bool multiply(std::int64_t a, std::int64_t b, std::int64_t* c) { return __builtin_mul_overflow(a, b, c); }
  Count of(Count other, bool (*overflows)(std::int64_t, std::int64_t, std::int64_t*)) const {
    std::int64_t result = 0;
    if (!value_ || !other.value_ || overflows(*value_, *other.value_, &result)) return Count();
    return Count(result);
  }
  std::optional<std::int64_t> value_;
};

std::optional<std::int64_t> expected_bytes(const Geometry& g) {
  const Count hidden = g.hidden, kv = g.kv_heads * g.head_dim, vocabulary = g.vocabulary;
  const Count per_layer = Count(2) * hidden + Count(2) * hidden * hidden + Count(2) * hidden * kv +
                          Count(3) * hidden * Count(g.intermediate);
  const Count tables = Count(2) * Count(g.max_positions) * Count(g.head_dim / 2);
  const Count output = Count(g.tied_embeddings ? 0 : 1) * vocabulary * hidden;
  const Count floats = vocabulary * hidden + Count(g.layers) * per_layer + hidden + tables + output;
  return (Count(kHeaderBytes) + Count(sizeof(float)) * floats).value();
}

/// Other files that are called .bin.
void refuse_other_formats(const MappedFile& file) {
  const std::string_view bytes(reinterpret_cast<const char*>(file.data()), file.size());
  const auto refuse = [&](const char* what) { throw DataError(cat(file.path().string(), ": ", what)); };
  if (bytes.starts_with("PK\x03\x04") || bytes.starts_with("\x80\x02"))
    refuse("a PyTorch file (pickle), which is not read: name a folder with config.json and model.safetensors");
  if (bytes.starts_with("24ka"))
    refuse("a llama2.c file of version 1 or 2; this program reads version 0 (llama2.c's export.py --version 0)");
}

Geometry parse_header(const MappedFile& file) {
  const std::string name = file.path().string();
  refuse_other_formats(file);
  if (file.size() < kHeaderBytes)
    throw DataError(cat(name, ": truncated: ", file.size(), " bytes, no llama2.c header"));
  std::array<std::int32_t, kHeaderInts> header{};
  std::memcpy(header.data(), file.data(), kHeaderBytes);
  constexpr std::array<std::int64_t, kHeaderInts> kMost = {kMostHidden, kMostIntermediate, kMostLayers,   kMostHeads,
                                                           kMostHeads,  kMostVocabulary,   kMostPositions};
  std::array<std::int64_t, kHeaderInts> sizes{};
  for (std::size_t i = 0; i < kHeaderInts; ++i) {
    sizes[i] = i == kVocabularyAt ? std::abs(std::int64_t{header[i]}) : header[i];
    if (sizes[i] <= 0 || sizes[i] > kMost[i])
      throw DataError(cat(name, ": not a llama2.c (version 0) file: header value ", i, " is ", header[i]));
  }
  Geometry g;
  g.family = "llama";
  g.hidden = sizes[0];
  g.intermediate = sizes[1];
  g.layers = sizes[2];
  g.heads = sizes[3];
  g.kv_heads = sizes[4];
  g.vocabulary = sizes[kVocabularyAt];
  g.tied_embeddings = header[kVocabularyAt] > 0;
  g.max_positions = sizes[6];
  g.norm_epsilon = 1e-5;
  g.bos = 1;
  g.eos = 2;
  if (g.hidden % g.heads != 0 || g.heads % g.kv_heads != 0 || (g.hidden / g.heads) % 2 != 0) {
    throw DataError(cat(name, ": not a llama2.c (version 0) file: hidden ", g.hidden, ", heads ", g.heads,
                        ", KV heads ", g.kv_heads));
  }
  g.head_dim = g.hidden / g.heads;
  const std::optional<std::int64_t> needed = expected_bytes(g);
  if (!needed || std::cmp_not_equal(*needed, file.size())) {
    throw DataError(cat(name, ": the header asks for ", needed ? cat(*needed) : "more than 2^63",
                        " bytes, the file has ", file.size(),
                        needed && std::cmp_less(*needed, file.size()) ? "" : ": truncated?"));
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
