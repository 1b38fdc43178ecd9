#include "core/quantize/packed_operations.h"

#include <ATen/ATen.h>

#include <limits>

#include "core/base/error.h"
#include "core/ops/kernels.h"

namespace mla {
namespace {

/// 0, step, 2 step, …, of x's device.
at::Tensor steps_beside(const at::Tensor& x, std::int64_t count, std::int64_t step, at::ScalarType type) {
  return at::arange(0, count * step, step, x.options().dtype(type));
}

/// The last dimension filled up with zeros to a multiple of `unit`, and cut into [units, unit].
at::Tensor in_units(const at::Tensor& x, std::int64_t unit) {
  const std::int64_t width = x.size(-1), units = (width + unit - 1) / unit;
  const at::Tensor whole = units * unit == width ? x : at::constant_pad_nd(x, {0, units * unit - width}, 0);
  return whole.unflatten(-1, {units, unit});
}

/// The first `width` of units laid side by side again.
at::Tensor side_by_side(const at::Tensor& units, std::int64_t width) {
  return units.flatten(-2).narrow(-1, 0, width).contiguous();
}

/// Eight codes of any number of bits are as many bytes: one whole number of at most 56 bits (8 bits need no packing).
constexpr std::int64_t kCodesOfAWord = 8;

bool fit_into_bytes(int bits) { return 8 % bits == 0; }

/// Whole numbers from parts of `bits` bits, the lowest first: [..., units, parts] to [..., units, 1].
at::Tensor joined_words(const at::Tensor& parts, std::int64_t bits, at::ScalarType type) {
  const at::Tensor shifts = steps_beside(parts, parts.size(-1), bits, type);
  return at::bitwise_left_shift(parts.to(type), shifts).sum(-1, true, type);
}

/// Back: `count` parts of each whole number.
at::Tensor parts_of_words(const at::Tensor& words, std::int64_t count, std::int64_t bits) {
  const at::Tensor shifts = steps_beside(words, count, bits, words.scalar_type());
  return at::bitwise_right_shift(words, shifts).bitwise_and((std::int64_t{1} << bits) - 1).to(at::kByte);
}

/// [outer, group, inner] with one scale for each of outer and inner: the middle dimension shares it.
struct ScaleView {
  std::int64_t outer = 1, group = 1, inner = 1;
};

ScaleView scale_view(const Packed& packed, std::int64_t elements) {
  const std::int64_t width = packed.width(), group = packed.group;
  switch (packed.grouping) {
    case Grouping::kContiguous:
      return {elements / group, group, 1};
    case Grouping::kRows:
      return {elements / width / group, group, width};
    case Grouping::kStrided:
      return {1, group, elements / group};
    case Grouping::kOffline:
      break;
  }
  return {1, elements / width, width};
}

}  // namespace

bool has_codec_kernels(const at::Tensor& x) { return x.is_cpu() && kernels_are_on(); }

at::Tensor pack_rows_by_operations(const at::Tensor& codes, int bits) {
  const std::int64_t width = codes.size(-1);
  if (fit_into_bytes(bits)) return joined_words(in_units(codes, 8 / bits), bits, at::kByte).squeeze(-1);
  const at::Tensor words = joined_words(in_units(codes, kCodesOfAWord), bits, at::kLong);
  return side_by_side(parts_of_words(words, bits, 8), packed_row_bytes(width, bits));
}

at::Tensor unpack_rows_by_operations(const at::Tensor& packed, std::int64_t width, int bits) {
  expects(packed.size(-1) == packed_row_bytes(width, bits), "packed rows of another width");
  if (fit_into_bytes(bits)) return side_by_side(parts_of_words(packed.unsqueeze(-1), 8 / bits, bits), width);
  const at::Tensor words = joined_words(in_units(packed, bits), 8, at::kLong);
  return side_by_side(parts_of_words(words, kCodesOfAWord, bits), width);
}

at::Tensor as_half(const at::Tensor& x) { return x.to(at::kHalf).to(at::kFloat); }

at::Tensor number_beside(const at::Tensor& x, double number) { return at::full({}, number, x.options()); }

at::Tensor finite_elements(const at::Tensor& x) { return (x - x).eq(0); }

at::Tensor first_fault(const at::Tensor& x) {
  const at::Tensor flat = x.flatten();
  return at::where(finite_elements(flat), kNoFault, steps_beside(flat, flat.numel(), 1, at::kLong)).amin();
}

at::Tensor code_values(const Packed& packed, const at::Tensor& codes, const at::Tensor& scale, const at::Tensor& zero) {
  const auto step = [&](const at::Tensor& x) { return packed.rounding == HalfRounding::kEveryStep ? as_half(x) : x; };
  const auto result = [&](const at::Tensor& x) { return packed.rounding == HalfRounding::kNone ? x : as_half(x); };
  switch (packed.form) {
    case CodeForm::kScaledPlusZero:
    case CodeForm::kCodebook:
      return result(step(codes * scale) + zero);
    case CodeForm::kLessZeroScaled:
      return result(step(codes - zero) * scale);
    case CodeForm::kPlusZeroDivided:
      return result(step(codes + zero) / scale);
  }
  throw std::logic_error("a form of codes that is none");
}

void put_sparse_by_operations(const SparseRows& sparse, at::Tensor& out) {
  if (sparse.spread.defined()) {
    const at::Tensor spread = sparse.spread.view_as(out);
    out = at::where(spread.isnan(), out, spread.to(at::kFloat));
    return;
  }
  // Entry i is of the first row that ends behind it.
  const at::Tensor entry = steps_beside(sparse.end, sparse.value.numel(), 1, at::kInt);
  const at::Tensor row = at::searchsorted(sparse.end, entry, /*out_int32=*/false, /*right=*/true);
  const at::Tensor channel = sparse.channel.to(at::kLong).bitwise_and(0xFFFF);
  out.view(-1).scatter_(0, row * out.size(1) + channel, sparse.value.to(at::kFloat));
}

at::Tensor decode_by_operations(const Packed& packed) {
  at::Tensor codes = unpack_rows_by_operations(packed.codes, packed.width(), packed.bits);
  const ScaleView view = scale_view(packed, codes.numel());
  if (packed.form == CodeForm::kCodebook) {
    codes = packed.codebook.index_select(0, codes.flatten().to(at::kInt));
  } else {
    codes = codes.to(at::kFloat);
  }
  at::Tensor scale = packed.scale.to(at::kFloat).reshape({view.outer, 1, view.inner});
  if (packed.fault.defined()) {
    scale = at::where(packed.fault.lt(kNoFault), std::numeric_limits<double>::quiet_NaN(), scale);
  }
  const at::Tensor zero = packed.zero.to(at::kFloat).reshape({view.outer, 1, view.inner});
  at::Tensor out = code_values(packed, codes.view({view.outer, view.group, view.inner}), scale, zero);
  if (packed.sparse.defined()) {
    out = out.view({-1, packed.width()});
    put_sparse_by_operations(packed.sparse, out);
  }
  return out.view(packed.shape);
}

}  // namespace mla
