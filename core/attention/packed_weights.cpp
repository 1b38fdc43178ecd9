#include "core/attention/packed_weights.h"

#include <ATen/ATen.h>

#include "core/base/error.h"
#include "core/base/registry.h"
#include "core/ops/unpack_matrix.h"
#include "core/quantize/limits.h"
#include "core/quantize/min_max.h"

namespace mla {
namespace {

enum PackedPart : std::size_t { kPackedCodes, kPackedScales, kPackedZeros };

struct PackedWeightsOptions {
  std::string codec;
  int bits = 8;
  Grouping grouping = Grouping::kContiguous;
  std::int64_t group_size = 1;
  CodeForm form = CodeForm::kScaledPlusZero;
  HalfRounding rounding = HalfRounding::kNone;
  CodecDtype scales = CodecDtype::kFloat32;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("codec", self.codec, "the codec that made the codes, for people");
    visit("bits", self.bits, "of a code, 1 to 8");
    visit("grouping", self.grouping,
          "elements that share a scale and a zero: contiguous | rows (one column of consecutive rows) | strided");
    visit("group_size", self.group_size, "elements of a group");
    visit("form", self.form,
          "what a code c stands for: scaled_plus_zero (c s + z) | less_zero_scaled ((c - z) s) | plus_zero_divided "
          "((c + z) / s)");
    visit("rounding", self.rounding, "where decoding rounds to float16: none | result | every_step");
    visit("scales", self.scales, "type of scales and zeros: float32 | float16");
  }

  void validate(const std::string& path) const {
    check_bits(bits, path);
    if (group_size < 1) throw ConfigError(cat(path, ".group_size = ", group_size, ": is less than 1"));
    if (grouping == Grouping::kOffline) throw ConfigError(cat(path, ".grouping = offline: not for weights"));
    if (form == CodeForm::kCodebook) throw ConfigError(cat(path, ".form = codebook: not for weights"));
  }
};

/// Codes of the matrix [rows, columns] as one tensor, rows being its tokens.
class PackedWeights final : public WeightStorage {
 public:
  using Options = PackedWeightsOptions;
  explicit PackedWeights(Options options) : options_(std::move(options)) {}

  std::string kind() const override { return "packed"; }
  Json fields() const override { return write_fields(options_); }
  std::string description() const override {
    return cat(options_.bits, "-bit ", options_.codec.empty() ? "" : options_.codec + " ", "codes");
  }

  void check(const MatrixShape& shape, const std::string& where) const override {
    check_layout(std::vector{shape.rows, shape.columns}, layout(), where);
  }

  std::vector<StoredPart> parts(const MatrixShape& shape) const override {
    const std::vector<std::int64_t> scales = scale_shape(std::vector{shape.rows, shape.columns}, layout());
    return {{"codes", {shape.rows, packed_row_bytes(shape.columns, options_.bits)}, at::kByte},
            {"scales", scales, scale_type()},
            {"zeros", scales, scale_type()}};
  }

  void expect_valid(const std::vector<at::Tensor>& parts, const MatrixShape& shape,
                    const std::string& where) const override {
    expect_decodable(packed(parts, shape), where);
  }

  at::Tensor dense(const std::vector<at::Tensor>& parts, const MatrixShape& shape) const override {
    return decoded(parts, shape);
  }

  at::Tensor rows(const std::vector<at::Tensor>& parts, const MatrixShape& shape,
                  const at::Tensor& numbers) const override {
    // Where groups do not cross rows, the rest of the matrix is left alone.
    if (options_.grouping != Grouping::kContiguous || shape.columns % options_.group_size != 0)
      return WeightStorage::rows(parts, shape, numbers);
    std::vector<at::Tensor> chosen;
    for (const at::Tensor& part : parts) chosen.push_back(part.index_select(0, numbers));
    return decoded(chosen, {numbers.numel(), shape.columns});
  }

  std::optional<RowSource> row_source(const std::vector<at::Tensor>& parts, const MatrixShape& shape) const override {
    const bool whole = options_.grouping == Grouping::kRows ? shape.rows % options_.group_size == 0
                                                            : shape.columns % options_.group_size == 0;
    const int bits = options_.bits;
    if (!whole || options_.grouping == Grouping::kStrided || options_.rounding != HalfRounding::kNone ||
        (bits != 2 && bits != 3 && bits != 4 && bits != 8) || shape.columns == 0)
      return {};
    for (const at::Tensor& part : parts) {
      if (!part.is_contiguous()) return {};
    }
    return RowSource{shape.rows, [span = span_of(parts), parts, columns = shape.columns](
                                     std::int64_t first, std::int64_t count, float* to) {
                       unpack_matrix_rows(span, first, count, columns, to);
                     }};
  }

 private:
  /// The matrix as one head's tokens.
  PackedSpan span_of(const std::vector<at::Tensor>& parts) const {
    PackedSpan span;
    span.bits = options_.bits;
    span.codes = parts.at(kPackedCodes).const_data_ptr<std::uint8_t>();
    span.row_bytes = parts.at(kPackedCodes).size(1);
    span.scale = parts.at(kPackedScales).const_data_ptr();
    span.zero = parts.at(kPackedZeros).const_data_ptr();
    span.half = scale_type() == at::kHalf;
    span.group = options_.group_size;
    span.across_tokens = options_.grouping == Grouping::kRows;
    span.formula = options_.form == CodeForm::kLessZeroScaled    ? PackedSpan::kLessZeroScaled
                   : options_.form == CodeForm::kPlusZeroDivided ? PackedSpan::kPlusZeroDivided
                                                                 : PackedSpan::kScaledPlusZero;
    return span;
  }

  GroupLayout layout() const { return {options_.grouping, options_.group_size}; }
  at::ScalarType scale_type() const { return options_.scales == CodecDtype::kFloat16 ? at::kHalf : at::kFloat; }

  at::Tensor decoded(const std::vector<at::Tensor>& parts, const MatrixShape& shape) const {
    return decode(packed(parts, shape));
  }

  Packed packed(const std::vector<at::Tensor>& parts, const MatrixShape& shape) const {
    Packed packed;
    packed.bits = options_.bits;
    packed.shape = {shape.rows, shape.columns};
    packed.grouping = options_.grouping;
    packed.group = options_.group_size;
    packed.form = options_.form;
    packed.rounding = options_.rounding;
    packed.codes = parts.at(kPackedCodes);
    packed.scale = parts.at(kPackedScales);
    packed.zero = parts.at(kPackedZeros);
    return packed;
  }

  Options options_;
};

const Registration<WeightStorage, PackedWeights> kPackedWeights(
    "packed", "codes of a codec with scales and zeros: NAME.codes, NAME.scales, NAME.zeros");

}  // namespace

std::shared_ptr<const WeightStorage> packed_storage(const Codec& codec, const std::string& name,
                                                    const MatrixShape& shape, const std::string& path) {
  const std::vector<std::int64_t> sizes = {shape.rows, shape.columns};
  codec.check(sizes, path);
  const std::optional<PackedFormat> format = codec.format(sizes);
  if (!format) return nullptr;
  return std::make_shared<PackedWeights>(
      PackedWeightsOptions{name, format->bits, format->grouping, format->group, format->form, format->rounding,
                           format->scales == at::kHalf ? CodecDtype::kFloat16 : CodecDtype::kFloat32});
}

Linear pack(const Linear& map, const Codec& codec, std::shared_ptr<const WeightStorage> storage) {
  const Packed packed = codec.encode(map.to_dense().detach().to(at::kFloat));
  if (!packed.codes.is_cpu()) expect_sound(packed, storage->description());
  expects(!packed.sparse.value.defined() && !packed.codebook.defined(), "codes, scales and zeros are all there is");
  std::vector<at::Tensor> parts;
  for (const at::Tensor& part : {packed.codes, packed.scale, packed.zero}) parts.push_back(part.to(map.device()));
  return {std::move(storage), {map.rows(), map.columns()}, std::move(parts), map.bias()};
}

}  // namespace mla
