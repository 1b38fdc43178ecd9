#include "core/attention/one_bit_weights.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>

#include "core/base/error.h"
#include "core/base/registry.h"
#include "core/ops/one_bit_rows.h"
#include "core/quantize/codec.h"

namespace mla {
namespace {

enum OneBitPart : std::size_t { kSignBits, kSecondBits, kSalientBits, kBitScales };

struct OneBitWeightsOptions {
  std::int64_t block = 128;
  bool centred = true;
  CodecDtype scales = CodecDtype::kFloat16;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("block", self.block, "columns that share scales in each row, a multiple of 8");
    visit("centred", self.centred, "groups have a mean: seven scales for each row and block instead of four");
    visit("scales", self.scales, "type of scales and means: float32 | float16");
  }

  void validate(const std::string& path) const {
    if (block < 8 || block % 8 != 0)
      throw ConfigError(cat(path, ".block = ", block, ": expected a multiple of 8, so that it begins with a byte"));
  }
};

/// Every element is one of four values of its row and block, in a salient column one of four others.
class OneBitWeights final : public WeightStorage {
 public:
  using Options = OneBitWeightsOptions;
  explicit OneBitWeights(const Options& options) : options_(options) {}

  std::string kind() const override { return "billm"; }
  Json fields() const override { return write_fields(options_); }
  std::string description() const override { return cat("one-bit weights in blocks of ", options_.block); }

  void check(const MatrixShape&, const std::string&) const override {}

  std::vector<StoredPart> parts(const MatrixShape& shape) const override {
    const std::int64_t bytes = packed_row_bytes(shape.columns, 1),
                       blocks = (shape.columns + options_.block - 1) / options_.block;
    return {{"signs", {shape.rows, bytes}, at::kByte},
            {"seconds", {shape.rows, bytes}, at::kByte},
            {"salient", {bytes}, at::kByte},
            {"scales", {shape.rows, blocks, options_.centred ? kCentredOneBitScales : kOneBitScales}, scale_type()}};
  }

  void expect_valid(const std::vector<at::Tensor>& parts, const MatrixShape&, const std::string& where) const override {
    if (!parts.at(kBitScales).isfinite().all().item<bool>())
      throw DataError(cat(where, ": holds NaN or infinite scales"));
  }

  at::Tensor dense(const std::vector<at::Tensor>& parts, const MatrixShape& shape) const override {
    // Bits are decoded on the host, wherever they lie.
    std::vector<at::Tensor> here;
    for (const at::Tensor& part : parts) here.push_back(part.to(at::kCPU).contiguous());
    const at::Tensor out = at::empty({shape.rows, shape.columns}, at::kFloat);
    const OneBitSpan span = span_of(here, shape.columns);
    float* to = out.mutable_data_ptr<float>();
    const std::int64_t some = std::max<std::int64_t>(1, 32768 / std::max<std::int64_t>(1, shape.columns));
    at::parallel_for(0, shape.rows, some, [&](std::int64_t begin, std::int64_t end) {
      one_bit_rows(span, begin, end - begin, to + begin * shape.columns);
    });
    return out.to(parts.at(kSignBits).device());
  }

  at::Tensor rows(const std::vector<at::Tensor>& parts, const MatrixShape& shape,
                  const at::Tensor& numbers) const override {
    std::vector<at::Tensor> chosen = parts;
    for (const OneBitPart part : {kSignBits, kSecondBits, kBitScales})
      chosen[part] = parts.at(part).index_select(0, numbers);
    return dense(chosen, {numbers.numel(), shape.columns});
  }

  std::optional<RowSource> row_source(const std::vector<at::Tensor>& parts, const MatrixShape& shape) const override {
    if (shape.columns == 0) return {};
    for (const at::Tensor& part : parts) {
      if (!part.is_contiguous()) return {};
    }
    return RowSource{shape.rows,
                     [span = span_of(parts, shape.columns), parts](std::int64_t first, std::int64_t count, float* to) {
                       one_bit_rows(span, first, count, to);
                     }};
  }

 private:
  at::ScalarType scale_type() const { return options_.scales == CodecDtype::kFloat16 ? at::kHalf : at::kFloat; }

  OneBitSpan span_of(const std::vector<at::Tensor>& parts, std::int64_t columns) const {
    return {parts.at(kSignBits).const_data_ptr<std::uint8_t>(),
            parts.at(kSecondBits).const_data_ptr<std::uint8_t>(),
            parts.at(kSalientBits).const_data_ptr<std::uint8_t>(),
            parts.at(kBitScales).const_data_ptr(),
            scale_type() == at::kHalf,
            options_.centred,
            columns,
            options_.block};
  }

  Options options_;
};

const Registration<WeightStorage, OneBitWeights> kOneBitWeights(
    "billm", "one bit an element and one more, with scales: NAME.signs, NAME.seconds, NAME.salient, NAME.scales");

}  // namespace

std::shared_ptr<const WeightStorage> one_bit_storage(const OneBitOptions& options) {
  return std::make_shared<OneBitWeights>(OneBitWeightsOptions{
      options.block, options.centred, options.scales == at::kHalf ? CodecDtype::kFloat16 : CodecDtype::kFloat32});
}

Linear hold_as_one_bit(const Linear& map, const at::Tensor& hessian, const OneBitOptions& options) {
  const OneBitMatrix made = one_bit(map.to_dense(), hessian, options);
  std::vector<at::Tensor> parts = {pack_rows(made.signs, 1), pack_rows(made.seconds, 1),
                                   pack_rows(made.salient.unsqueeze(0), 1).squeeze(0), made.scales};
  for (at::Tensor& part : parts) part = part.contiguous().to(map.device());
  return {one_bit_storage(options), {map.rows(), map.columns()}, std::move(parts), map.bias()};
}

}  // namespace mla
