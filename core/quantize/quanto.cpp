// The weight quantizer of optimum-quanto, as transformers' quantized cache applies it (max optimizer).
#include <ATen/ATen.h>

#include "core/base/error.h"
#include "core/base/registry.h"
#include "core/quantize/min_max.h"

namespace mla {
namespace {

struct QuantoOptions {
  int bits = 4;
  std::int64_t axis = 0;
  std::int64_t group_size = 64;
  CodecDtype dtype = CodecDtype::kFloat32;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("bits", self.bits, "of a code, 1 to 8 (the package: 2 and 4)");
    visit("axis", self.axis, "0: groups of consecutive elements | -1: groups of consecutive tokens, per channel");
    visit("group_size", self.group_size, "elements that share a scale and a shift");
    visit("dtype", self.dtype, "arithmetic and scales: float32 | float16");
  }

  void validate(const std::string& path) const {
    check_bits(bits, path);
    check_group(group_size, bits, path);
    if (axis != 0 && axis != -1) throw ConfigError(cat(path, ".axis = ", axis, ": known: 0, -1"));
  }
};

/// scale = (max - min) / (2^bits - 1), shift = -min, code = clamp(round((x + shift) / scale)), x ~ scale code - shift.
/// Stored: zero = -shift. Axis 0 takes 64 consecutive elements whatever they are: with heads of 16 channels, 4 tokens.
/// Axis -1 takes 64 consecutive rows over sequences, heads and tokens.
class Quanto final : public Codec {
 public:
  using Options = QuantoOptions;
  explicit Quanto(Options options) : options_(options) {}

  Packed encode(const at::Tensor& x, EncodeReport*) const override {
    check(x.sizes(), "quanto");
    return encode_min_max(x, {options_.bits, layout(), options_.dtype, 0, "quanto"});
  }

  std::int64_t predicted_bytes(std::span<const std::int64_t> shape, std::int64_t) const override {
    return grouped_bytes(shape, options_.bits, options_.group_size, options_.dtype);
  }

  std::optional<PackedFormat> format(std::span<const std::int64_t>) const override {
    return min_max_format(options_.bits, layout(), options_.dtype);
  }

  void check(std::span<const std::int64_t> shape, const std::string& path) const override {
    check_layout(shape, layout(), path);
  }

  std::optional<std::int64_t> token_group(std::int64_t width) const override {
    if (options_.axis == 0 && width % options_.group_size == 0) return 1;
    return {};
  }

  int bits() const override { return options_.bits; }

  /// Axis 0: codes [groups, group], scales [groups, 1]. Axis -1: codes [group, width * runs], scales [1, width * runs],
  /// column c * runs + g for channel c of the g-th run of tokens.
  NamedTensors parts(const Packed& packed) const override {
    const at::Tensor codes = unpack_codes(packed), shift = -packed.zero;
    if (options_.axis == 0) {
      return {{"codes", codes.view({-1, packed.group})},
              {"scale", packed.scale.view({-1, 1})},
              {"shift", shift.view({-1, 1})}};
    }
    const auto by_channel = [&](const at::Tensor& scale) {
      return scale.view({-1, packed.width()}).t().reshape({1, -1});
    };
    return {{"codes", codes.view({-1, packed.group, packed.width()}).permute({1, 2, 0}).reshape({packed.group, -1})},
            {"scale", by_channel(packed.scale)},
            {"shift", by_channel(shift)}};
  }

  std::unique_ptr<Codec> for_stream(const std::string&, const StreamSample*) const override {
    return std::make_unique<Quanto>(*this);
  }

 private:
  GroupLayout layout() const {
    return {options_.axis == 0 ? Grouping::kContiguous : Grouping::kRows, options_.group_size};
  }

  Options options_;
};

const Registration<Codec, Quanto> kQuanto("quanto",
                                          "optimum-quanto's min-max groups, as in transformers' quantized cache");

}  // namespace
}  // namespace mla
