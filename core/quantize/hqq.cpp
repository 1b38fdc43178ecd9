// HQQ: min-max scales, zero points improved by half-quadratic steps (github.com/mobiusml/hqq).
#include <ATen/ATen.h>

#include <cmath>
#include <limits>

#include "core/base/checks.h"
#include "core/base/error.h"
#include "core/base/registry.h"
#include "core/quantize/limits.h"
#include "core/quantize/min_max.h"
#include "core/quantize/packed_operations.h"

namespace mla {
namespace {

constexpr double kLargestScale = 2e4;
constexpr double kSmallestRange = 1e-4;
constexpr double kFirstBestError = 1e4;

/// Releases that differ in their arithmetic.
enum class Release { k022, k028 };
std::vector<std::pair<std::string, Release>> enum_names(Release) {
  return {{"0.2.2", Release::k022}, {"0.2.8", Release::k028}, {"0.2.8.post1", Release::k028}};
}

struct HqqOptions {
  int bits = 4;
  std::int64_t axis = 0;
  std::int64_t group_size = 64;
  Release version = Release::k028;
  std::optional<bool> optimize;
  std::int64_t iterations = 20;
  double lp_norm = 0.7;
  double beta = 10;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("bits", self.bits, "of a code, 1 to 8 (the package: 1, 2, 3, 4, 8)");
    visit("axis", self.axis, "0: groups of elements N / group_size apart | 1: groups of consecutive elements");
    visit("group_size", self.group_size, "elements that share a scale and a zero");
    visit(
        "version", self.version,
        "0.2.8: constant beta, scale 1 for ranges <= 1e-4 | 0.2.2: beta grows by 1.01 a step; does not optimize unless "
        "told to");
    visit("optimize", self.optimize, "improve the zero points; null: as the version's cache does");
    visit("iterations", self.iterations, "steps at most");
    visit("lp_norm", self.lp_norm, "p of the norm of the error that is minimised, in (0, 1]");
    visit("beta", self.beta, "weight of the quadratic term");
  }

  bool optimizes() const { return optimize.value_or(version == Release::k028); }

  void validate(const std::string& path) const {
    check_bits(bits, path);
    check_group(group_size, bits, path);
    if (axis != 0 && axis != 1) throw ConfigError(cat(path, ".axis = ", axis, ": known: 0, 1"));
    if (iterations < 0) throw ConfigError(cat(path, ".iterations = ", iterations, ": is negative"));
    if (!(lp_norm > 0 && lp_norm <= 1)) throw ConfigError(cat(path, ".lp_norm = ", lp_norm, ": is outside (0, 1]"));
    if (!(beta > 0)) throw ConfigError(cat(path, ".beta = ", beta, ": must be above 0"));
  }
};

/// code = clamp(round(x s + z)), x ~ (code - z) / s with s = (2^bits - 1) / (max - min) of the group and z from
/// min(-min s) on improved by at most 20 steps of: e = x - (code - z) / s; e' = sign(e) relu(|e| - |e|^(p-1) / beta);
/// z = mean(code - (x - e') s). It stops when the mean |e| of the whole tensor no longer falls, and keeps the last z.
/// On another device than the host, where its own sums and powers round by themselves, z may be another in its last
/// bits, and a code near a boundary another one; all steps are then made, and those after the stop change nothing,
/// since asking would wait. Stored: scale = 1 / s and zero = z. Axis 0 sees a tensor of N elements as [group, N /
/// group] and groups its columns: one channel at tokens far apart where N / group is a multiple of the width, a mixture
/// of channels elsewhere.
class Hqq final : public Codec {
 public:
  using Options = HqqOptions;
  explicit Hqq(Options options) : options_(options) {}

  Packed encode(const at::Tensor& x, EncodeReport* report) const override {
    check(x.sizes(), "hqq");
    const at::Tensor values = x.to(at::kFloat).contiguous();
    if (x.is_cpu()) expect_encodable(x, values, "hqq");
    const std::int64_t dim = options_.axis;
    const at::Tensor matrix =
        dim == 0 ? values.view({options_.group_size, -1}) : values.view({-1, options_.group_size});
    const double levels = (1 << options_.bits) - 1;
    const at::Tensor low = matrix.amin({dim}, true), range = matrix.amax({dim}, true) - low;
    at::Tensor scale = (range.reciprocal() * levels);
    if (options_.version == Release::k028)
      scale = at::where(range.abs().le(kSmallestRange), at::ones_like(scale), scale);
    scale = scale.clamp_max(kLargestScale);
    at::Tensor zero = -low * scale;
    if (options_.optimizes()) zero = improve(matrix, scale, std::move(zero), levels, report);
    const at::Tensor codes = at::round(matrix * scale + zero).clamp(0, levels).nan_to_num();

    Packed packed;
    packed.bits = options_.bits;
    packed.shape = values.sizes().vec();
    packed.grouping = layout().grouping;
    packed.group = options_.group_size;
    packed.form = CodeForm::kLessZeroScaled;
    packed.codes = pack_rows(codes.to(at::kByte).view(values.sizes()), options_.bits);
    const std::vector<std::int64_t> stored = scale_shape(values.sizes(), layout());
    packed.scale = scale.reciprocal().reshape(stored).contiguous();
    packed.zero = zero.reshape(stored).contiguous();
    if (x.is_cpu()) expect_decodable(packed, "hqq");
    return packed;
  }

  std::int64_t predicted_bytes(std::span<const std::int64_t> shape, std::int64_t) const override {
    return grouped_bytes(shape, options_.bits, options_.group_size, CodecDtype::kFloat32);
  }

  std::optional<PackedFormat> format(std::span<const std::int64_t>) const override {
    return PackedFormat{options_.bits,       layout().grouping, options_.group_size, CodeForm::kLessZeroScaled,
                        HalfRounding::kNone, at::kFloat};
  }

  void check(std::span<const std::int64_t> shape, const std::string& path) const override {
    check_layout(shape, layout(), path);
  }

  std::optional<std::int64_t> token_group(std::int64_t width) const override {
    const bool each_token = options_.axis == 1 && !options_.optimizes() && width % options_.group_size == 0;
    return each_token ? std::optional<std::int64_t>(1) : std::nullopt;
  }

  int bits() const override { return options_.bits; }

  /// Codes [group, N / group] with scales [1, N / group] (axis 0) or [N / group, group] with [N / group, 1] (axis 1),
  /// and `packed` as the package packs them.
  NamedTensors parts(const Packed& packed) const override {
    const bool columns = options_.axis == 0;
    const std::vector<std::int64_t> matrix =
        columns ? std::vector<std::int64_t>{packed.group, -1} : std::vector<std::int64_t>{-1, packed.group};
    const std::vector<std::int64_t> scale_shape =
        columns ? std::vector<std::int64_t>{1, -1} : std::vector<std::int64_t>{-1, 1};
    const at::Tensor codes = unpack_codes(packed).view(matrix);
    NamedTensors parts{
        {"codes", codes}, {"scale", packed.scale.view(scale_shape)}, {"zero", packed.zero.view(scale_shape)}};
    if (const at::Tensor words = package_words(codes); words.defined()) parts.emplace_back("packed", words);
    return parts;
  }

  std::unique_ptr<Codec> for_stream(const std::string&, const StreamSample*) const override {
    return std::make_unique<Hqq>(*this);
  }

 private:
  GroupLayout layout() const {
    return {options_.axis == 0 ? Grouping::kStrided : Grouping::kContiguous, options_.group_size};
  }

  /// Rows in as many equal parts as codes fit a word, the first part in the highest bits: bytes for 8, 4, 2 and 1 bits,
  /// int32 words of ten codes for 3, the rows filled up with zeros.
  at::Tensor package_words(const at::Tensor& codes) const {
    const bool triple = options_.bits == 3;
    const std::int64_t per_word = triple ? 10 : 8 / options_.bits, top = triple ? 27 : 8 - options_.bits;
    if (!triple && 8 % options_.bits != 0) return {};
    const std::int64_t rows = (codes.size(0) + per_word - 1) / per_word * per_word;
    if (rows != codes.size(0) && !triple) return {};
    at::Tensor filled = at::zeros({rows, codes.size(1)}, at::kLong);
    filled.narrow(0, 0, codes.size(0)).copy_(codes);
    at::Tensor words = at::zeros({rows / per_word, codes.size(1)}, at::kLong);
    for (std::int64_t i = 0; i < per_word; ++i) {
      words +=
          filled.narrow(0, i * (rows / per_word), rows / per_word) * (std::int64_t{1} << (top - options_.bits * i));
    }
    return words.to(triple ? at::kInt : at::kByte);
  }

  at::Tensor improve(const at::Tensor& matrix, const at::Tensor& scale, at::Tensor zero, double levels,
                     EncodeReport* report) const {
    double beta = options_.beta;
    at::Tensor best = number_beside(scale, kFirstBestError);
    at::Tensor goes_on = at::ones({}, scale.options().dtype(at::kBool));
    std::vector<at::Tensor> trace;
    for (std::int64_t step = 0; step < options_.iterations; ++step) {
      const at::Tensor codes = at::round(matrix * scale + zero).clamp(0, levels);
      const at::Tensor error = matrix - (codes - zero) / scale;
      const at::Tensor size = error.abs();
      const at::Tensor shrunk = error.sign() * at::relu(size - size.pow(options_.lp_norm - 1) * (1 / beta));
      zero = at::where(goes_on, at::mean(codes - (matrix - shrunk) * scale, {options_.axis}, true), zero);
      if (options_.version == Release::k022) beta *= 1.01;
      const at::Tensor mean_error = size.mean();
      trace.push_back(at::where(goes_on, mean_error, std::numeric_limits<double>::quiet_NaN()));
      goes_on = goes_on.logical_and(mean_error.lt(best));
      best = mean_error;
      if (matrix.is_cpu() && !goes_on.item<bool>()) break;  // nothing to wait for
    }
    if (report && !trace.empty()) tell(at::stack(trace), *report);
    return zero;
  }

  /// Mean errors until the steps stopped; behind them stand no numbers.
  static void tell(const at::Tensor& trace, EncodeReport& report) {
    const at::Tensor errors = trace.to(at::kCPU, at::kDouble);
    for (std::int64_t step = 0; step < errors.numel(); ++step) {
      const double error = errors.const_data_ptr<double>()[step];
      if (!std::isnan(error)) report.error_trace.push_back(error);
    }
  }

  Options options_;
};

const Registration<Codec, Hqq> kHqq("hqq", "half-quadratic zero points (hqq), as in transformers' quantized cache");

}  // namespace
}  // namespace mla
