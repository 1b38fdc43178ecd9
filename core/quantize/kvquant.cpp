// KVQuant (arXiv 2401.18079): calibrated keys per channel, values per token, non-uniform codes, outliers apart.
#include <ATen/ATen.h>

#include <algorithm>
#include <mutex>
#include <unordered_map>

#include "core/base/error.h"
#include "core/base/registry.h"
#include "core/quantize/codebook.h"
#include "core/quantize/kvquant_options.h"
#include "core/quantize/kvquant_rows.h"
#include "core/quantize/limits.h"
#include "core/quantize/min_max.h"
#include "core/quantize/packed_operations.h"

namespace mla {
namespace {

/// Outliers a token may have on each side where their number is capped: 0.5 % of 4096 channels, as released.
constexpr std::int64_t kReleasedCap = 21;

using Codes = KvQuantCodes;

at::Tensor as_tensor(const std::vector<double>& values) { return at::tensor(values, at::kDouble).to(at::kFloat); }

/// Dense: code of (x - offset) / range in the codebook, or uniform codes between the thresholds. Sparse: elements
/// outside the thresholds, float16. Keys: thresholds are percentiles of each channel over calibration tokens, fixed.
/// Values: those of each token's channels, with the range taken again without the outliers. Heads stand side by side.
/// Input and result are rounded to float16, and so are the keys' thresholds and what is made of them.
///
/// Calibration happens on the host, once for a stream. What was calibrated is copied to a device when something is
/// first encoded there; the codes of tokens are made where the tokens stand.
class KvQuant final : public Codec {
 public:
  using Options = KvQuantOptions;
  explicit KvQuant(Options options) : options_(std::move(options)), variant_(options_.scheme()) {
    if (variant_.codes == Codes::kNormalFloat) {
      tables_.search = as_tensor(normal_float_codebook(options_.bits));
      tables_.codebook = as_half(tables_.search);
    } else if (!options_.codebook.empty()) {
      tables_.search = tables_.codebook = as_tensor(options_.codebook);
    }
    if (!options_.upper.empty()) set_thresholds();
  }

  Packed encode(const at::Tensor& x, EncodeReport*) const override {
    check(x.sizes(), "kvquant");
    const bool here = x.is_cpu();
    const at::Tensor values = as_half(x).contiguous(), rows = values.view({-1, values.size(-1)});
    if (here) expect_encodable(x, values, "kvquant");
    const KvQuantTables& tables = tables_on(values.device());
    KvQuantRows found = has_codec_kernels(values) ? kvquant_rows_on_host(rows, scheme(), tables)
                                                  : kvquant_rows_by_operations(rows, scheme(), tables);
    Packed packed;
    packed.bits = options_.bits;
    packed.shape = values.sizes().vec();
    packed.group = values.size(-1);
    packed.codes = pack_rows(found.codes.view(values.sizes()), options_.bits);
    describe_codes(packed, tables);
    if (is_key()) {
      packed.grouping = Grouping::kOffline;
      packed.scale = tables.scale;
      packed.zero = tables.zero;
    } else {
      std::vector<std::int64_t> stored = packed.shape;
      stored.back() = 1;
      const at::ScalarType type = options_.scales == CodecDtype::kFloat16 ? at::kHalf : at::kFloat;
      packed.scale = found.scale.view(stored).to(type);
      packed.zero = found.zero.view(stored).to(type);
    }
    packed.sparse = found.sparse;
    if (!here) {
      if (found.sparse.defined()) packed.sparse.spread = found.sparse.spread.view(packed.shape);
      packed.fault = first_fault(values);
      return packed;
    }
    packed.sparse = compacted(found.sparse);
    if (!is_key()) expect_decodable(packed, "kvquant");  // the keys' scales were looked at when they were made
    return packed;
  }

  std::int64_t predicted_bytes(std::span<const std::int64_t> shape, std::int64_t sparse_entries) const override {
    std::int64_t rows = 1;
    for (std::size_t i = 0; i + 1 < shape.size(); ++i) rows *= shape[i];
    const std::int64_t scale = is_key() ? 0 : (options_.scales == CodecDtype::kFloat32 ? 8 : 4);
    const std::int64_t pointer = variant_.sparse ? 4 : 0;
    return rows * (packed_row_bytes(shape.back(), options_.bits) + scale + pointer) + 4 * sparse_entries;
  }

  void check(std::span<const std::int64_t> shape, const std::string& path) const override {
    check_layout(shape, {Grouping::kContiguous, 1}, path);
    if (shape.back() > 65536) throw ConfigError(cat(path, ": ", shape.back(), " channels; at most 65536"));
    if (variant_.codes == Codes::kNonUniform && !tables_.codebook.defined()) {
      throw ConfigError(cat(path, ".codebook: variant ", options_.variant, " needs one, given or from a calibration"));
    }
    if (!is_key()) return;
    if (!tables_.scale.defined()) {
      throw ConfigError(cat(path, ".upper: keys need thresholds, given or from a calibration"));
    }
    if (tables_.scale.numel() != shape.back()) {
      throw ConfigError(cat(path, ".upper: ", tables_.scale.numel(), " thresholds for ", shape.back(), " channels"));
    }
  }

  std::optional<std::int64_t> token_group(std::int64_t) const override { return 1; }
  int bits() const override { return options_.bits; }
  bool joins_heads() const override { return true; }
  bool keys_before_rotation() const override { return is_key(); }
  bool needs_calibration() const override {
    const bool thresholds = options_.tensor != StreamSide::kValue && options_.upper.empty();
    return thresholds || (variant_.codes == Codes::kNonUniform && options_.codebook.empty());
  }
  std::int64_t first_tokens() const override {
    return std::max<std::int64_t>(options_.first_few_fp16, variant_.sink ? 1 : 0);
  }
  std::int64_t shared_bytes() const override {
    std::int64_t bytes = 0;
    if (is_key() && tables_.scale.defined()) bytes += 2 * 2 * tables_.scale.numel();  // float16 thresholds
    if (variant_.codes != Codes::kUniform && tables_.codebook.defined()) bytes += 2 * tables_.codebook.numel();
    return bytes;
  }

  /// The values as float16, the mask of the outliers, and what was calibrated.
  NamedTensors parts(const Packed& packed) const override {
    NamedTensors parts{{"dequant_f16", decode(packed).to(at::kHalf)}, {"codes", unpack_codes(packed)}};
    if (variant_.sparse) {
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
      parts.emplace_back("upper", tables_.upper);
      parts.emplace_back("lower", tables_.lower);
    }
    if (variant_.codes != Codes::kUniform) parts.emplace_back("codebook", tables_.search);
    return parts;
  }

  std::unique_ptr<Codec> for_stream(const std::string& stream, const StreamSample* sample) const override {
    Options chosen = options_;
    chosen.tensor = side_of(chosen.tensor, stream);
    if (sample) calibrate_kvquant(*sample, upper_quantile(), first_tokens(), chosen);
    return std::make_unique<KvQuant>(std::move(chosen));
  }

 private:
  bool is_key() const { return options_.tensor != StreamSide::kValue; }
  double upper_quantile() const { return variant_.sparse ? 1 - (1 - options_.sparsity_threshold) / 2 : 1; }

  KvQuantScheme scheme() const {
    std::int64_t most = std::max<std::int64_t>(options_.cap_outliers, 0);
    if (variant_.capped || most == 1) most = kReleasedCap;
    return {options_.bits,
            variant_.codes,
            is_key(),
            variant_.sparse,
            most,
            upper_quantile(),
            options_.scales == CodecDtype::kFloat16};
  }

  /// The tables where tokens are encoded: made on the host, and copied once to each device.
  const KvQuantTables& tables_on(at::Device device) const {
    if (device.is_cpu()) return tables_;
    const std::lock_guard lock(copying_);
    const auto [found, is_new] = elsewhere_.try_emplace(device);
    if (is_new) found->second = tables_.on(device);
    return found->second;
  }

  /// What codes of keys are multiplied by and added to, in float16 arithmetic.
  void set_thresholds() {
    const at::Tensor upper = as_tensor(options_.upper).to(at::kHalf), lower = as_tensor(options_.lower).to(at::kHalf);
    tables_.upper = upper.to(at::kFloat);
    tables_.lower = lower.to(at::kFloat);
    at::Tensor scale, zero;
    if (variant_.codes == Codes::kUniform) {
      scale = (upper - lower).reciprocal() * ((1 << options_.bits) - 1);
      zero = lower * scale;
    } else {
      scale = (upper - lower) / 2;
      zero = (upper + lower) / 2;
    }
    // A channel that never changed in the calibration: everything else in it is an outlier, or is lost.
    const at::Tensor flat = upper.eq(lower);
    tables_.scale = at::where(flat, at::ones_like(scale), scale).to(at::kFloat).contiguous();
    if (variant_.codes == Codes::kUniform) zero = at::where(flat, lower, zero);
    tables_.zero = zero.to(at::kFloat).contiguous();
    Packed keys;
    keys.bits = options_.bits;
    keys.scale = tables_.scale;
    keys.zero = tables_.zero;
    describe_codes(keys, tables_);
    // A codebook that is missing is told when something is to be encoded.
    if (keys.form != CodeForm::kCodebook || keys.codebook.defined()) expect_decodable(keys, "kvquant, thresholds");
  }

  /// What codes stand for.
  void describe_codes(Packed& packed, const KvQuantTables& tables) const {
    packed.form = variant_.codes == Codes::kUniform ? CodeForm::kPlusZeroDivided : CodeForm::kCodebook;
    packed.rounding =
        variant_.codes == Codes::kNormalFloat && is_key() ? HalfRounding::kEveryStep : HalfRounding::kResult;
    if (variant_.codes != Codes::kUniform) packed.codebook = tables.codebook;
  }

  Options options_;
  KvQuantVariant variant_;
  KvQuantTables tables_;  ///< on the host
  mutable std::mutex copying_;
  mutable std::unordered_map<at::Device, KvQuantTables> elsewhere_;
};

const Registration<Codec, KvQuant> kKvQuant(
    "kvquant", "calibrated non-uniform codes, outliers apart, keys before rotation (arXiv 2401.18079)");

}  // namespace
}  // namespace mla
