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
#include "core/model/rotary_rows.h"

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

/// The sizes that a header states.
struct Header {
  std::int64_t hidden = 0, intermediate = 0, layers = 0, heads = 0, kv_heads = 0, vocabulary = 0, positions = 0;
  bool tied = false;
  std::int64_t head_dim() const { return hidden / heads; }
};

std::optional<std::int64_t> expected_bytes(const Header& h) {
  const Count hidden = h.hidden, kv = h.kv_heads * h.head_dim(), vocabulary = h.vocabulary;
  const Count per_layer = Count(2) * hidden + Count(2) * hidden * hidden + Count(2) * hidden * kv +
                          Count(3) * hidden * Count(h.intermediate);
  const Count tables = Count(2) * Count(h.positions) * Count(h.head_dim() / 2);
  const Count output = Count(h.tied ? 0 : 1) * vocabulary * hidden;
  const Count floats = vocabulary * hidden + Count(h.layers) * per_layer + hidden + tables + output;
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

Header parse_header(const MappedFile& file) {
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
  const Header h{
      sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], sizes[kVocabularyAt], sizes[6], header[kVocabularyAt] > 0};
  if (h.hidden % h.heads != 0 || h.heads % h.kv_heads != 0 || h.head_dim() % 2 != 0) {
    throw DataError(cat(name, ": not a llama2.c (version 0) file: hidden ", h.hidden, ", heads ", h.heads,
                        ", KV heads ", h.kv_heads));
  }
  const std::optional<std::int64_t> needed = expected_bytes(h);
  if (!needed || std::cmp_not_equal(*needed, file.size())) {
    throw DataError(cat(name, ": the header asks for ", needed ? cat(*needed) : "more than 2^63",
                        " bytes, the file has ", file.size(),
                        needed && std::cmp_less(*needed, file.size()) ? "" : ": truncated?"));
  }
  return h;
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

}  // namespace

ModelSpec read_llama2c_spec(const std::filesystem::path& path) {
  const Header h = parse_header(MappedFile(path));
  UniformModel uniform;
  ModelSpec& model = uniform.model;
  model.family = "llama";
  model.hidden = h.hidden;
  model.vocabulary = h.vocabulary;
  model.tied_embeddings = h.tied;
  model.max_positions = h.positions;
  model.norm_epsilon = 1e-5;
  model.rope_dim = h.head_dim();
  model.bos = 1;
  model.eos = 2;
  uniform.heads.heads = h.heads;
  uniform.heads.kv_heads = h.kv_heads;
  uniform.heads.head_dim = h.head_dim();
  uniform.feed_forward.width = h.intermediate;
  uniform.layers = h.layers;
  return uniform.spec();
}

WeightMap read_llama2c_weights(const std::filesystem::path& path) {
  auto file = std::make_shared<MappedFile>(path);
  const Header h = parse_header(*file);
  const std::int64_t kv = h.kv_heads * h.head_dim();
  Cursor cursor(std::move(file));
  WeightMap weights;
  weights["model.embed_tokens.weight"] = cursor.next({h.vocabulary, h.hidden});
  // The file holds each kind of weight for all layers together.
  const auto by_layer = [&](const std::string& name, std::vector<std::int64_t> shape, bool rotated = false) {
    shape.insert(shape.begin(), h.layers);
    const at::Tensor all = cursor.next(shape);
    for (std::int64_t i = 0; i < h.layers; ++i) {
      weights[cat("model.layers.", i, ".", name, ".weight")] = rotated ? to_half_split(all[i], h.head_dim()) : all[i];
    }
  };
  by_layer("input_layernorm", {h.hidden});
  by_layer("self_attn.q_proj", {h.hidden, h.hidden}, true);
  by_layer("self_attn.k_proj", {kv, h.hidden}, true);
  by_layer("self_attn.v_proj", {kv, h.hidden});
  by_layer("self_attn.o_proj", {h.hidden, h.hidden});
  by_layer("post_attention_layernorm", {h.hidden});
  by_layer("mlp.gate_proj", {h.intermediate, h.hidden});
  by_layer("mlp.down_proj", {h.hidden, h.intermediate});
  by_layer("mlp.up_proj", {h.intermediate, h.hidden});
  weights["model.norm.weight"] = cursor.next({h.hidden});
  cursor.next({2, h.positions, h.head_dim() / 2});
  if (!h.tied) weights["lm_head.weight"] = cursor.next({h.vocabulary, h.hidden});
  return weights;
}

}  // namespace mla
