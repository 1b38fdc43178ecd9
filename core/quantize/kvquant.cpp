// KVQuant (arXiv 2401.18079): calibrated keys per channel, values per token, non-uniform codes, outliers apart.
#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "core/base/error.h"
#include "core/base/registry.h"
#include "core/quantize/codebook.h"
#include "core/quantize/kvquant_options.h"
#include "core/quantize/limits.h"
#include "core/quantize/min_max.h"

namespace mla {
namespace {

/// Outliers a token may have on each side where their number is capped: 0.5 % of 4096 channels, as released.
constexpr std::int64_t kReleasedCap = 21;

using Codes = KvQuantCodes;

float as_half(float x) { return static_cast<float>(at::Half(x)); }

/// The q-quantile of sorted values, linear between neighbours.
float quantile(std::span<const float> sorted, double q) {
  const double place = q * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<std::size_t>(place);
  const std::size_t above = std::min(below + 1, sorted.size() - 1);
  return static_cast<float>(sorted[below] + (static_cast<double>(sorted[above]) - sorted[below]) *
                                                (place - static_cast<double>(below)));
}

at::Tensor as_tensor(const std::vector<double>& values) { return at::tensor(values, at::kDouble).to(at::kFloat); }

/// Writes the codes of one row and its outliers.
struct RowSink {
  std::uint8_t* codes;
  std::vector<std::int16_t>& channels;
  std::vector<at::Half>& values;
};

/// Dense: code of (x - offset) / range in the codebook, or uniform codes between the thresholds. Sparse: elements
/// outside the thresholds, float16. Keys: thresholds are percentiles of each channel over calibration tokens, fixed.
/// Values: those of each token's channels, with the range taken again without the outliers. Heads stand side by side.
/// Input and result are rounded to float16, and so are the keys' thresholds and what is made of them.
class KvQuant final : public Codec {
 public:
  using Options = KvQuantOptions;
  explicit KvQuant(Options options) : options_(std::move(options)), scheme_(options_.scheme()) {
    if (scheme_.codes == Codes::kNormalFloat) {
      search_ = as_tensor(normal_float_codebook(options_.bits));
      codebook_ = search_.to(at::kHalf).to(at::kFloat);
    } else if (!options_.codebook.empty()) {
      search_ = codebook_ = as_tensor(options_.codebook);
    }
    if (!options_.upper.empty()) set_thresholds();
  }

  Packed encode(const at::Tensor& x, EncodeReport*) const override {
    check(x.sizes(), "kvquant");
    const at::Tensor values = x.to(at::kCPU).to(at::kHalf).to(at::kFloat).contiguous();
    expect_encodable(x, values, "kvquant");
    const std::int64_t width = values.size(-1), rows = values.numel() / width;
    at::Tensor codes = at::zeros(values.sizes(), at::kByte);
    Packed packed;
    if (is_key()) {
      packed.scale = scale_;
      packed.zero = zero_;
    } else {
      packed.scale = at::empty({rows}, at::kFloat);
      packed.zero = at::empty({rows}, at::kFloat);
    }
    std::vector<std::int32_t> ends;
    std::vector<std::int16_t> channels;
    std::vector<at::Half> outliers;
    for (std::int64_t row = 0; row < rows; ++row) {
      const std::span<const float> from(values.const_data_ptr<float>() + row * width, static_cast<std::size_t>(width));
      RowSink sink{codes.mutable_data_ptr<std::uint8_t>() + row * width, channels, outliers};
      if (is_key()) {
        encode_key(from, sink);
      } else {
        encode_value(from, sink, packed.scale.mutable_data_ptr<float>()[row],
                     packed.zero.mutable_data_ptr<float>()[row]);
      }
      ends.push_back(static_cast<std::int32_t>(channels.size()));
    }
    finish(packed, values, codes);
    if (!is_key()) expect_decodable(packed, "kvquant");  // the keys' scales were looked at when they were made
    if (scheme_.sparse) {
      packed.sparse.end = at::tensor(ends, at::kInt);
      packed.sparse.channel = at::tensor(channels, at::kShort);
      packed.sparse.value = at::empty({static_cast<std::int64_t>(outliers.size())}, at::kHalf);
      std::copy(outliers.begin(), outliers.end(), packed.sparse.value.mutable_data_ptr<at::Half>());
    }
    return packed;
  }

  std::int64_t predicted_bytes(std::span<const std::int64_t> shape, std::int64_t sparse_entries) const override {
    std::int64_t rows = 1;
    for (std::size_t i = 0; i + 1 < shape.size(); ++i) rows *= shape[i];
    const std::int64_t scale = is_key() ? 0 : (options_.scales == CodecDtype::kFloat32 ? 8 : 4);
    const std::int64_t pointer = scheme_.sparse ? 4 : 0;
    return rows * (packed_row_bytes(shape.back(), options_.bits) + scale + pointer) + 4 * sparse_entries;
  }

  void check(std::span<const std::int64_t> shape, const std::string& path) const override {
    check_layout(shape, {Grouping::kContiguous, 1}, path);
    if (shape.back() > 65536) throw ConfigError(cat(path, ": ", shape.back(), " channels; at most 65536"));
    if (scheme_.codes == Codes::kNonUniform && !codebook_.defined()) {
      throw ConfigError(cat(path, ".codebook: variant ", options_.variant, " needs one, given or from a calibration"));
    }
    if (!is_key()) return;
    if (!scale_.defined()) {
      throw ConfigError(cat(path, ".upper: keys need thresholds, given or from a calibration"));
    }
    if (scale_.numel() != shape.back()) {
      throw ConfigError(cat(path, ".upper: ", scale_.numel(), " thresholds for ", shape.back(), " channels"));
    }
  }

  std::optional<std::int64_t> token_group(std::int64_t) const override { return 1; }
  int bits() const override { return options_.bits; }
  bool joins_heads() const override { return true; }
  bool keys_before_rotation() const override { return is_key(); }
  bool needs_calibration() const override {
    const bool thresholds = options_.tensor != StreamSide::kValue && options_.upper.empty();
    return thresholds || (scheme_.codes == Codes::kNonUniform && options_.codebook.empty());
  }
  std::int64_t first_tokens() const override {
    return std::max<std::int64_t>(options_.first_few_fp16, scheme_.sink ? 1 : 0);
  }
  std::int64_t shared_bytes() const override {
    std::int64_t bytes = 0;
    if (is_key() && scale_.defined()) bytes += 2 * 2 * scale_.numel();  // float16 thresholds
    if (scheme_.codes != Codes::kUniform && codebook_.defined()) bytes += 2 * codebook_.numel();
    return bytes;
  }

  /// The values as float16, the mask of the outliers, and what was calibrated.
  NamedTensors parts(const Packed& packed) const override {
    NamedTensors parts{{"dequant_f16", decode(packed).to(at::kHalf)}, {"codes", unpack_codes(packed)}};
    if (scheme_.sparse) {
      at::Tensor mask = at::zeros(packed.shape, at::kByte);
      std::uint8_t* marks = mask.mutable_data_ptr<std::uint8_t>();
      const std::int32_t* end = packed.sparse.end.const_data_ptr<std::int32_t>();
      const std::int16_t* channel = packed.sparse.channel.const_data_ptr<std::int16_t>();
      std::int32_t entry = 0;
      for (std::int64_t row = 0; row < packed.sparse.end.numel(); ++row) {
        for (; entry < end[row]; ++entry) marks[row * packed.width() + static_cast<std::uint16_t>(channel[entry])] = 1;
      }
      parts.emplace_back("mask", mask);
    }
    if (is_key()) {
      parts.emplace_back("upper", upper_);
      parts.emplace_back("lower", lower_);
    }
    if (scheme_.codes != Codes::kUniform) parts.emplace_back("codebook", search_);
    return parts;
  }

  std::unique_ptr<Codec> for_stream(const std::string& stream, const StreamSample* sample) const override {
    Options chosen = options_;
    chosen.tensor = side_of(chosen.tensor, stream);
    if (sample) fit(*sample, chosen);
    return std::make_unique<KvQuant>(std::move(chosen));
  }

 private:
  bool is_key() const { return options_.tensor != StreamSide::kValue; }
  double upper_quantile() const { return scheme_.sparse ? 1 - (1 - options_.sparsity_threshold) / 2 : 1; }

  /// What codes of keys are multiplied by and added to, in float16 arithmetic.
  void set_thresholds() {
    const at::Tensor upper = as_tensor(options_.upper).to(at::kHalf), lower = as_tensor(options_.lower).to(at::kHalf);
    upper_ = upper.to(at::kFloat);
    lower_ = lower.to(at::kFloat);
    if (scheme_.codes == Codes::kUniform) {
      scale_ = (upper - lower).reciprocal() * ((1 << options_.bits) - 1);
      zero_ = lower * scale_;
    } else {
      scale_ = (upper - lower) / 2;
      zero_ = (upper + lower) / 2;
    }
    // A channel that never changed in the calibration: everything else in it is an outlier, or is lost.
    const at::Tensor flat = upper.eq(lower);
    scale_ = at::where(flat, at::ones_like(scale_), scale_).to(at::kFloat).contiguous();
    if (scheme_.codes == Codes::kUniform) zero_ = at::where(flat, lower, zero_);
    zero_ = zero_.to(at::kFloat).contiguous();
    Packed keys;
    keys.bits = options_.bits;
    keys.scale = scale_;
    keys.zero = zero_;
    describe_codes(keys);
    // A codebook that is missing is told when something is to be encoded.
    if (keys.form != CodeForm::kCodebook || keys.codebook.defined()) expect_decodable(keys, "kvquant, thresholds");
  }

  std::uint8_t code_of(float x, float scale, float zero) const {
    if (scheme_.codes == Codes::kUniform) {
      const float levels = static_cast<float>((1 << options_.bits) - 1);
      const float scaled = scale * x;
      return static_cast<std::uint8_t>(std::clamp(std::nearbyint(scaled - zero), 0.0F, levels));
    }
    const float centred = x - zero, normalised = centred / scale;
    const float* book = search_.const_data_ptr<float>();
    std::int64_t nearest = 0;
    float smallest = std::abs(normalised - book[0]);
    for (std::int64_t i = 1; i < search_.numel(); ++i) {
      if (const float distance = std::abs(normalised - book[i]); distance < smallest) {
        smallest = distance;
        nearest = i;
      }
    }
    return static_cast<std::uint8_t>(nearest);
  }

  void encode_key(std::span<const float> x, RowSink& sink) const {
    const float* upper = upper_.const_data_ptr<float>();
    const float* lower = lower_.const_data_ptr<float>();
    std::vector<bool> outlier(x.size());
    if (scheme_.sparse) {
      for (std::size_t c = 0; c < x.size(); ++c) outlier[c] = x[c] > upper[c] || x[c] < lower[c];
      cap(x, outlier);
    }
    for (std::size_t c = 0; c < x.size(); ++c) {
      put(x[c], c, outlier[c], scale_.const_data_ptr<float>()[c], zero_.const_data_ptr<float>()[c], sink);
    }
  }

  /// Keeps the farthest outliers on each side, as distances in units of the channel's range.
  void cap(std::span<const float> x, std::vector<bool>& outlier) const {
    std::int64_t most = options_.cap_outliers;
    if (scheme_.capped || most == 1) most = kReleasedCap;
    if (most < 1) return;
    for (const float side : {1.0F, -1.0F}) {
      std::vector<std::pair<float, std::size_t>> beyond;
      for (std::size_t c = 0; c < x.size(); ++c) {
        const float* edge = side > 0 ? upper_.const_data_ptr<float>() : lower_.const_data_ptr<float>();
        const float range = upper_.const_data_ptr<float>()[c] - lower_.const_data_ptr<float>()[c];
        if (outlier[c] && side * (x[c] - edge[c]) > 0) beyond.emplace_back(side * (edge[c] - x[c]) / range, c);
      }
      std::sort(beyond.begin(), beyond.end());
      for (std::size_t i = static_cast<std::size_t>(most); i < beyond.size(); ++i) outlier[beyond[i].second] = false;
    }
  }

  void encode_value(std::span<const float> x, RowSink& sink, float& scale, float& zero) const {
    std::vector<float> sorted(x.begin(), x.end());
    std::sort(sorted.begin(), sorted.end());
    std::vector<bool> outlier(x.size());
    float high = sorted.back(), low = sorted.front();
    if (scheme_.sparse) {
      const float upper = quantile(sorted, upper_quantile()), lower = quantile(sorted, 1 - upper_quantile());
      high = low = sorted[(sorted.size() - 1) / 2];  // the outliers' stand-in
      for (std::size_t c = 0; c < x.size(); ++c) {
        outlier[c] = x[c] >= upper || x[c] <= lower;
        if (!outlier[c]) {
          high = std::max(high, x[c]);
          low = std::min(low, x[c]);
        }
      }
    }
    const float range = high - low;
    if (scheme_.codes == Codes::kUniform) {
      scale = range > 0 ? 1 / range * static_cast<float>((1 << options_.bits) - 1) : 1;
      zero = low * scale;
    } else {
      scale = range > 0 ? range / 2 : 1;
      zero = (high + low) / 2;
    }
    if (options_.scales == CodecDtype::kFloat16) {
      scale = as_half(scale);
      zero = as_half(zero);
    }
    for (std::size_t c = 0; c < x.size(); ++c) put(x[c], c, outlier[c], scale, zero, sink);
  }

  void put(float x, std::size_t channel, bool outlier, float scale, float zero, RowSink& sink) const {
    if (outlier) {
      sink.channels.push_back(static_cast<std::int16_t>(static_cast<std::uint16_t>(channel)));
      sink.values.emplace_back(x);
    } else {
      sink.codes[channel] = code_of(x, scale, zero);
    }
  }

  /// What codes stand for.
  void describe_codes(Packed& packed) const {
    packed.form = scheme_.codes == Codes::kUniform ? CodeForm::kPlusZeroDivided : CodeForm::kCodebook;
    packed.rounding =
        scheme_.codes == Codes::kNormalFloat && is_key() ? HalfRounding::kEveryStep : HalfRounding::kResult;
    if (scheme_.codes != Codes::kUniform) packed.codebook = codebook_;
  }

  void finish(Packed& packed, const at::Tensor& values, const at::Tensor& codes) const {
    packed.bits = options_.bits;
    packed.shape = values.sizes().vec();
    packed.group = values.size(-1);
    packed.codes = pack_rows(codes, options_.bits);
    describe_codes(packed);
    if (is_key()) {
      packed.grouping = Grouping::kOffline;
      return;
    }
    std::vector<std::int64_t> shape = packed.shape;
    shape.back() = 1;
    const at::ScalarType type = options_.scales == CodecDtype::kFloat16 ? at::kHalf : at::kFloat;
    packed.scale = packed.scale.view(shape).to(type);
    packed.zero = packed.zero.view(shape).to(type);
  }

  /// Thresholds and codebook that are not given, from rows of what will be encoded.
  void fit(const StreamSample& sample, Options& chosen) const {
    const at::Tensor values = sample.values.to(at::kCPU, at::kFloat).contiguous();
    if (values.numel() == 0) throw DataError("kvquant: the calibration holds no values");
    expect_encodable(sample.values, values, "kvquant, calibration");
    if (sample.fisher.defined()) {
      const at::Tensor weights = sample.fisher.to(at::kCPU, at::kFloat).contiguous();
      expect_encodable(sample.fisher, weights, "kvquant, weights of the calibration");
      if (weights.lt(0).any().item<bool>()) throw DataError("kvquant: a weight of the calibration is negative");
    }
    const bool key = chosen.tensor == StreamSide::kKey;
    const std::int64_t axis = key ? 0 : 1;
    const double q = upper_quantile();
    const at::Tensor sorted = std::get<0>(values.sort(axis));
    const at::Tensor upper = quantiles(sorted, axis, q), lower = quantiles(sorted, axis, 1 - q);
    if (key && chosen.upper.empty()) {
      for (std::int64_t c = 0; c < values.size(1); ++c) {
        chosen.upper.push_back(upper.const_data_ptr<float>()[c]);
        chosen.lower.push_back(lower.const_data_ptr<float>()[c]);
      }
    }
    if (scheme_.codes != Codes::kNonUniform || !chosen.codebook.empty()) return;
    const at::Tensor offset = ((upper + lower) / 2).unsqueeze(axis), range = ((upper - lower) / 2).unsqueeze(axis);
    const at::Tensor normalised = (values - offset) / range;
    at::Tensor kept = normalised.abs().le(1);  // no outliers, and no 0 / 0 of channels that never change
    if (first_tokens() > 0) kept.narrow(0, 0, std::min(first_tokens(), kept.size(0))).fill_(false);
    const at::Tensor points = normalised.masked_select(kept).contiguous();
    const at::Tensor weights = sample.fisher.defined()
                                   ? sample.fisher.to(at::kCPU, at::kFloat).masked_select(kept).contiguous()
                                   : at::ones_like(points);
    if (points.numel() == 0) throw ConfigError("kvquant: the calibration holds nothing but outliers");
    const auto size = static_cast<std::size_t>(points.numel());
    chosen.codebook = weighted_kmeans({points.const_data_ptr<float>(), size}, {weights.const_data_ptr<float>(), size},
                                      std::int64_t{1} << options_.bits);
  }

  /// Along `axis` of sorted values, linear between neighbours; float32 of float64 arithmetic.
  static at::Tensor quantiles(const at::Tensor& sorted, std::int64_t axis, double q) {
    const double place = q * static_cast<double>(sorted.size(axis) - 1);
    const auto below = static_cast<std::int64_t>(place);
    const std::int64_t above = std::min(below + 1, sorted.size(axis) - 1);
    const at::Tensor a = sorted.select(axis, below).to(at::kDouble), b = sorted.select(axis, above).to(at::kDouble);
    return (a + (b - a) * (place - static_cast<double>(below))).to(at::kFloat).contiguous();
  }

  Options options_;
  KvQuantVariant scheme_;
  at::Tensor search_, codebook_;  ///< float32 [2^bits]: where codes are looked up, and what they stand for
  at::Tensor upper_, lower_;      ///< float32 [channels], of keys, rounded to float16
  at::Tensor scale_, zero_;       ///< likewise
};

const Registration<Codec, KvQuant> kKvQuant(
    "kvquant", "calibrated non-uniform codes, outliers apart, keys before rotation (arXiv 2401.18079)");

}  // namespace
}  // namespace mla
