// Round-to-nearest: asymmetric min-max codes per token or per channel.

#include "core/base/error.h"
#include "core/base/registry.h"
#include "core/quantize/min_max.h"

namespace mla {
namespace {

enum class Per { kToken, kChannel };
std::vector<std::pair<std::string, Per>> enum_names(Per) {
  return {{"token", Per::kToken}, {"channel", Per::kChannel}};
}

struct RtnOptions {
  int bits = 4;
  Per per = Per::kToken;
  std::int64_t group_size = 0;
  CodecDtype dtype = CodecDtype::kFloat32;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("bits", self.bits, "of a code, 1 to 8");
    visit("per", self.per, "token: groups of channels | channel: groups of tokens");
    visit("group_size", self.group_size,
          "elements that share a scale and a zero; 0: all channels of a token, or all tokens encoded together");
    visit("dtype", self.dtype, "arithmetic and scales: float32 | float16");
  }

  void validate(const std::string& path) const {
    check_bits(bits, path);
    if (group_size != 0) check_group(group_size, bits, path);
  }
};

/// code = round((x - min) / scale), scale = (max - min) / (2^bits - 1), or 1 where all elements are equal.
class Rtn final : public Codec {
 public:
  using Options = RtnOptions;
  explicit Rtn(Options options) : options_(options) {}

  Packed encode(const at::Tensor& x, EncodeReport*) const override {
    check(x.sizes(), kPath);
    return encode_min_max(x, {options_.bits, layout(x.sizes()), options_.dtype, 1, "rtn"});
  }

  std::int64_t predicted_bytes(std::span<const std::int64_t> shape, std::int64_t) const override {
    return grouped_bytes(shape, options_.bits, layout(shape).group, options_.dtype);
  }

  std::optional<PackedFormat> format(std::span<const std::int64_t> shape) const override {
    return min_max_format(options_.bits, layout(shape), options_.dtype);
  }

  void check(std::span<const std::int64_t> shape, const std::string& path) const override {
    const GroupLayout groups = layout(shape);
    check_layout(shape, {groups.grouping, options_.per == Per::kToken ? 1 : groups.group}, path);
    const bool by_token = options_.per == Per::kToken;
    const std::int64_t size = by_token ? shape.back() : shape[shape.size() - 2];
    check_divides(size, by_token ? " channels of a token" : " tokens", shape, groups.group, options_.bits, path);
  }

  std::optional<std::int64_t> token_group(std::int64_t) const override {
    if (options_.per == Per::kToken) return 1;
    if (options_.group_size > 0) return options_.group_size;
    return {};
  }

  int bits() const override { return options_.bits; }

  NamedTensors parts(const Packed& packed) const override {
    return {{"codes", unpack_codes(packed)}, {"scale", packed.scale}, {"min", packed.zero}};
  }

  std::unique_ptr<Codec> for_stream(const std::string&, const StreamSample*) const override {
    return std::make_unique<Rtn>(*this);
  }

 private:
  static constexpr const char* kPath = "rtn";

  GroupLayout layout(std::span<const std::int64_t> shape) const {
    const auto size = [&](std::int64_t all) {
      return options_.group_size > 0 ? options_.group_size : std::max<std::int64_t>(all, 1);
    };
    if (shape.size() < 2) return {Grouping::kContiguous, 1};
    if (options_.per == Per::kToken) return {Grouping::kContiguous, size(shape.back())};
    return {Grouping::kRows, size(shape[shape.size() - 2])};
  }

  Options options_;
};

const Registration<Codec, Rtn> kRtn("rtn", "round-to-nearest between minimum and maximum, per token or per channel");

}  // namespace
}  // namespace mla
