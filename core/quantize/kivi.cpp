// KIVI (arXiv 2402.02750): keys per channel in groups of tokens, values per token in groups of channels.
#include <ATen/ATen.h>

#include "core/base/error.h"
#include "core/base/registry.h"
#include "core/quantize/min_max.h"

namespace mla {
namespace {

struct KiviOptions {
  int bits = 2;
  StreamSide tensor = StreamSide::kAuto;
  std::int64_t group_size = 32;
  CodecDtype dtype = CodecDtype::kFloat32;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("bits", self.bits, "of a code, 1 to 8 (the authors': 2, 4, 8)");
    visit("tensor", self.tensor,
          "K: groups of tokens, per channel | V: groups of channels, per token | auto: V for values, K for all else");
    visit("group_size", self.group_size, "elements that share a scale and a minimum");
    visit("dtype", self.dtype, "arithmetic and scales: float32 | float16");
  }

  void validate(const std::string& path) const {
    check_bits(bits, path);
    check_group(group_size, bits, path);
  }
};

/// scale = (max - min) / (2^bits - 1), code = round(clamp((x - min) / scale)), x ~ code scale + min.
class Kivi final : public Codec {
 public:
  using Options = KiviOptions;
  explicit Kivi(Options options) : options_(options) {}

  Packed encode(const at::Tensor& x, EncodeReport*) const override {
    check(x.sizes(), "kivi");
    return encode_min_max(x, {options_.bits, layout(), options_.dtype, 0, "kivi"});
  }

  std::int64_t predicted_bytes(std::span<const std::int64_t> shape, std::int64_t) const override {
    return grouped_bytes(shape, options_.bits, options_.group_size, options_.dtype);
  }

  std::optional<PackedFormat> format(std::span<const std::int64_t>) const override {
    return min_max_format(options_.bits, layout(), options_.dtype);
  }

  void check(std::span<const std::int64_t> shape, const std::string& path) const override {
    check_layout(shape, {layout().grouping, per_token() ? 1 : options_.group_size}, path);
    const std::int64_t size = per_token() ? shape.back() : shape[shape.size() - 2];
    check_divides(size, per_token() ? " channels of a token" : " tokens", shape, options_.group_size, options_.bits,
                  path);
  }

  std::optional<std::int64_t> token_group(std::int64_t) const override { return per_token() ? 1 : options_.group_size; }

  int bits() const override { return options_.bits; }

  /// Scales [..., tokens / group, 1, width] (K) or [..., tokens, width / group, 1] (V). `packed`: int32 words of 32 /
  /// bits codes along the tokens (K) or channels (V), the first in the lowest bits; left out where they do not fit.
  NamedTensors parts(const Packed& packed) const override {
    const std::int64_t dim = per_token() ? -1 : -2;
    const at::Tensor codes = unpack_codes(packed);
    NamedTensors parts{{"codes", codes}, {"scale", packed.scale.unsqueeze(dim)}, {"min", packed.zero.unsqueeze(dim)}};
    const std::int64_t per_word = 32 / options_.bits;
    if (32 % options_.bits == 0 && codes.size(dim) % per_word == 0) {
      const at::Tensor words = codes.to(at::kLong).unflatten(dim, {codes.size(dim) / per_word, per_word});
      std::vector<std::int64_t> weights;
      for (std::int64_t i = 0; i < per_word; ++i) weights.push_back(std::int64_t{1} << (options_.bits * i));
      const at::Tensor weight =
          per_token() ? at::tensor(weights, at::kLong) : at::tensor(weights, at::kLong).unsqueeze(1);
      parts.emplace_back("packed", (words * weight).sum(dim).to(at::kInt));
    }
    return parts;
  }

  std::unique_ptr<Codec> for_stream(const std::string& stream, const StreamSample*) const override {
    Options chosen = options_;
    chosen.tensor = side_of(chosen.tensor, stream);
    return std::make_unique<Kivi>(chosen);
  }

 private:
  bool per_token() const { return options_.tensor == StreamSide::kValue; }
  GroupLayout layout() const { return {per_token() ? Grouping::kContiguous : Grouping::kRows, options_.group_size}; }

  Options options_;
};

const Registration<Codec, Kivi> kKivi("kivi", "keys per channel, values per token, in groups (arXiv 2402.02750)");

}  // namespace
}  // namespace mla
