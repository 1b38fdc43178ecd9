// Codecs: tensors of a KV cache, and matrices of weights, as packed codes, scales and zeros.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace mla {

/// Which elements share a scale and a zero. Element (row r, channel c) of x [rows, width], rows being all leading
/// dimensions in order, tokens the fastest, has flat index f = r * width + c; G elements form a group.
enum class Grouping {
  kContiguous,  ///< group f / G: G consecutive channels of a token where G divides width
  kRows,        ///< group (r / G) * width + c: one channel of G consecutive tokens
  kStrided,     ///< group f mod (elements / G)
  kOffline,     ///< group c: every token has the same scales, known beforehand
};

/// What a code stands for.
enum class CodeForm {
  kScaledPlusZero,   ///< code * scale + zero
  kLessZeroScaled,   ///< (code - zero) * scale
  kPlusZeroDivided,  ///< (code + zero) / scale
  kCodebook,         ///< codebook[code] * scale + zero
};

/// Where decoding rounds to float16. Arithmetic is float32 in between.
enum class HalfRounding {
  kNone,
  kResult,     ///< the result
  kEveryStep,  ///< the product and the sum, as float16 tensors would
};

/// Elements stored apart, exactly, instead of their codes (dense-and-sparse): for row r the entries
/// end[r - 1] … end[r] - 1, from 0 for row 0. How many there are is known by their values alone, for which another
/// device would have to be waited for: there they are spread until compacted() is called.
struct SparseRows {
  at::Tensor end;      ///< int32 [rows]
  at::Tensor channel;  ///< int16 [entries], read as unsigned
  at::Tensor value;    ///< float16 [entries]
  at::Tensor spread;   ///< instead of these three: float16 of the tensor's shape, NaN where there is no entry

  bool defined() const { return end.defined() || spread.defined(); }
  std::int64_t rows() const;
  std::int64_t entries() const;  ///< waits for the device where they are spread
};

/// The entries as `end`, `channel` and `value`; waits for the device where they were spread.
SparseRows compacted(const SparseRows& sparse);

/// The names of these in files.
inline std::vector<std::pair<std::string, Grouping>> enum_names(Grouping) {
  return {{"contiguous", Grouping::kContiguous},
          {"rows", Grouping::kRows},
          {"strided", Grouping::kStrided},
          {"offline", Grouping::kOffline}};
}
inline std::vector<std::pair<std::string, CodeForm>> enum_names(CodeForm) {
  return {{"scaled_plus_zero", CodeForm::kScaledPlusZero},
          {"less_zero_scaled", CodeForm::kLessZeroScaled},
          {"plus_zero_divided", CodeForm::kPlusZeroDivided},
          {"codebook", CodeForm::kCodebook}};
}
inline std::vector<std::pair<std::string, HalfRounding>> enum_names(HalfRounding) {
  return {{"none", HalfRounding::kNone}, {"result", HalfRounding::kResult}, {"every_step", HalfRounding::kEveryStep}};
}

/// What an encoded tensor is apart from its shape and its numbers; see Packed.
struct PackedFormat {
  int bits = 0;
  Grouping grouping = Grouping::kContiguous;
  std::int64_t group = 0;
  CodeForm form = CodeForm::kScaledPlusZero;
  HalfRounding rounding = HalfRounding::kNone;
  at::ScalarType scales = at::kFloat;  ///< of scales and zeros: float32 or float16
  bool operator==(const PackedFormat&) const = default;
};

/// Of Packed::fault: every element has a code.
inline constexpr std::int64_t kNoFault = std::int64_t{1} << 62;

/// One encoded tensor, where what was encoded stands. The buffers are what is stored: their bytes are the cache's
/// bytes.
struct Packed {
  int bits = 0;                     ///< of a code
  std::vector<std::int64_t> shape;  ///< of the tensor, [..., tokens, width]
  Grouping grouping = Grouping::kContiguous;
  std::int64_t group = 0;  ///< elements of a group, G
  CodeForm form = CodeForm::kScaledPlusZero;
  /// uint8 [..., tokens, ceil(width * bits / 8)]: code c of a row is its bits c * bits … of one little-endian bit
  /// string, so that 4-bit code 0 is the low half of byte 0; 3-bit codes cross bytes.
  at::Tensor codes;
  /// float32 or float16, both of one type and shape: [..., tokens, width / G] (kContiguous, G divides width),
  /// [..., tokens / G, width] (kRows, G divides tokens), else flat in the order of the group numbers, [groups]. With
  /// kOffline they are the codec's, [width], shared by all its tensors.
  at::Tensor scale, zero;
  at::Tensor codebook;  ///< float32 [2^bits], the codec's; only with kCodebook
  HalfRounding rounding = HalfRounding::kNone;
  SparseRows sparse;  ///< undefined tensors where the codec has no outliers
  /// int64 [], on other devices than the host, of codecs whose scales do not tell: the flat index of the first element
  /// that has no code, at least kNoFault where all have one. decode() gives NaN for it. See expect_sound().
  at::Tensor fault;

  std::int64_t tokens() const { return shape[shape.size() - 2]; }
  std::int64_t width() const { return shape.back(); }
  /// Bytes of codes, scales, zeros and sparse entries, counted from the buffers; entries that are spread count as what
  /// they become. What belongs to the codec and is there once for all tokens (offline scales, codebook) is not among
  /// them.
  std::int64_t bytes() const;
  /// Bytes of the buffers as they are now.
  std::int64_t buffer_bytes() const;
};

/// What an encoder can tell of its work.
struct EncodeReport {
  std::vector<double> error_trace;  ///< mean absolute error after each iteration, of codecs that iterate
};

/// Calibration of one stream of one layer: rows of what it will cache, heads side by side.
struct StreamSample {
  at::Tensor values;  ///< float32 [tokens, heads * width]
  at::Tensor fisher;  ///< squared gradients, same shape; undefined: all weights are one
};

using NamedTensors = std::vector<std::pair<std::string, at::Tensor>>;

/// A cache quantizer. Encoding is deterministic; decode(encode(x)) has x's shape, in float32.
///
/// Codes are made and stay where x stands: in the host's memory by kernels, elsewhere (and with MLA_KERNELS=off) by
/// LibTorch's operations, which are not waited for. Both give the same bits, but for what a codec says of its sums and
/// powers.
class Codec {
 public:
  static constexpr const char* kKind = "codec";
  virtual ~Codec() = default;

  /// Encodes x [..., tokens, width], of a floating type. Throws ConfigError (see check()) where x does not fit, and
  /// DataError for elements that have no code (core/quantize/limits.h). Those of another device than the host are found
  /// by expect_sound(), since looking would wait; until then what they share a scale with is decoded to no finite
  /// numbers. `report` waits.
  virtual Packed encode(const at::Tensor& x, EncodeReport* report = nullptr) const = 0;

  /// Bytes that encode() of a tensor of this shape stores, by formula; codecs with data-dependent sparse entries need
  /// their number.
  virtual std::int64_t predicted_bytes(std::span<const std::int64_t> shape, std::int64_t sparse_entries = 0) const = 0;

  /// The format of what encode() gives for a tensor of this shape, where codes, scales and zeros of its own are all of
  /// it; nothing for codecs whose tensors lean on a calibration.
  virtual std::optional<PackedFormat> format(std::span<const std::int64_t> /*shape*/) const { return {}; }

  /// Throws ConfigError, one line that names `path`, when tensors of this shape cannot be encoded.
  virtual void check(std::span<const std::int64_t> shape, const std::string& path) const = 0;

  /// Tokens that are encoded together at least: 1 for codecs that treat each token by itself, otherwise the codec
  /// only takes multiples. Empty: any number, but all that are given together form the groups (whole-tensor codecs).
  virtual std::optional<std::int64_t> token_group(std::int64_t width) const = 0;

  virtual int bits() const = 0;

  /// Whether the heads of a stream are laid side by side, [tokens, heads * width], before they are encoded.
  virtual bool joins_heads() const { return false; }

  /// Tokens at the beginning of a sequence that the codec wants kept as float16.
  virtual std::int64_t first_tokens() const { return 0; }

  /// Bytes of what the codec keeps once for all tokens: offline scales and codebooks.
  virtual std::int64_t shared_bytes() const { return 0; }

  /// Codes, scales and the like in the layout in which the codec's publication gives them, by name, for comparisons; of
  /// what stands on the host.
  virtual NamedTensors parts(const Packed& packed) const = 0;

  /// The codec for one stream ("key", "value", "latent", "rope_key"): codecs that treat keys and values differently
  /// choose here, and codecs that need calibration take it from `sample` (null: none was made).
  /// Throws ConfigError where a calibration is needed and missing.
  virtual std::unique_ptr<Codec> for_stream(const std::string& stream, const StreamSample* sample) const = 0;

  /// Whether for_stream() needs a sample.
  virtual bool needs_calibration() const { return false; }

  /// Whether keys should be given before the rotation (and rotated when read).
  virtual bool keys_before_rotation() const { return false; }
};

/// The tensor that was encoded, float32, as the codec's formula gives it, where the codes stand. Products and sums
/// round one after the other everywhere (no fused multiply-add).
at::Tensor decode(const Packed& packed);

/// The same on another device.
Packed to_device(Packed packed, at::Device device);

PackedFormat format_of(const Packed& packed);

/// The codes alone, uint8 of the tensor's shape.
at::Tensor unpack_codes(const Packed& packed);

/// Bytes of one packed row of `width` codes.
constexpr std::int64_t packed_row_bytes(std::int64_t width, int bits) { return (width * bits + 7) / 8; }

/// Packs uint8 codes [..., width] < 2^bits along the last dimension, and back.
at::Tensor pack_rows(const at::Tensor& codes, int bits);
at::Tensor unpack_rows(const at::Tensor& packed, std::int64_t width, int bits);

}  // namespace mla
