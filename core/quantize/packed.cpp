#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "core/base/error.h"
#include "core/ops/vector_math.h"
#include "core/quantize/codec.h"
#include "core/quantize/packed_operations.h"

namespace mla {
namespace {

constexpr std::int64_t kDecodedTogether = 1 << 15;  ///< fewer are decoded faster than a thread wakes up
constexpr std::int64_t kRowEndBytes = 4;            ///< of a row's end, int32
constexpr std::int64_t kEntryBytes = 4;             ///< of a sparse entry: its channel, int16, and its value, float16

/// Whole codes fit into whole bytes: code c of a row is at bits bits * (c mod per_byte) of byte c / per_byte.
template <int kBits>
MLA_INLINE void unpack_row_of(const std::uint8_t* packed, std::int64_t width, std::uint8_t* codes) {
  constexpr std::int64_t kPerByte = 8 / kBits;
  constexpr unsigned kMask = (1U << kBits) - 1U;
  const std::int64_t whole = width / kPerByte;
  for (std::int64_t byte = 0; byte < whole; ++byte) {
    for (std::int64_t i = 0; i < kPerByte; ++i) {
      codes[byte * kPerByte + i] = static_cast<std::uint8_t>((packed[byte] >> (kBits * i)) & kMask);
    }
  }
  for (std::int64_t c = whole * kPerByte; c < width; ++c) {
    codes[c] = static_cast<std::uint8_t>((packed[c / kPerByte] >> (kBits * (c % kPerByte))) & kMask);
  }
}

MLA_INLINE void unpack_row(const std::uint8_t* packed, std::int64_t width, int bits, std::uint8_t* codes) {
  switch (bits) {
    case 8:
      std::memcpy(codes, packed, static_cast<std::size_t>(width));
      return;
    case 4:
      return unpack_row_of<4>(packed, width, codes);
    case 2:
      return unpack_row_of<2>(packed, width, codes);
    case 1:
      return unpack_row_of<1>(packed, width, codes);
    default:
      break;
  }
  const unsigned mask = (1U << bits) - 1U;
  const std::int64_t last_byte = packed_row_bytes(width, bits) - 1;
  for (std::int64_t c = 0; c < width; ++c) {
    const std::int64_t bit = c * bits, byte = bit / 8;
    const unsigned window = packed[byte] | (byte < last_byte ? static_cast<unsigned>(packed[byte + 1]) << 8U : 0U);
    codes[c] = static_cast<std::uint8_t>((window >> (bit % 8)) & mask);
  }
}

MLA_VECTORISED void unpack_kernel(const std::uint8_t* packed, std::int64_t rows, std::int64_t width, int bits,
                                  std::uint8_t* codes) {
  const std::int64_t stride = packed_row_bytes(width, bits);
  for (std::int64_t row = 0; row < rows; ++row) unpack_row(packed + row * stride, width, bits, codes + row * width);
}

void pack_row(const std::uint8_t* codes, std::int64_t width, int bits, std::uint8_t* packed) {
  std::memset(packed, 0, static_cast<std::size_t>(packed_row_bytes(width, bits)));
  for (std::int64_t c = 0; c < width; ++c) {
    const std::int64_t bit = c * bits, byte = bit / 8;
    const unsigned shifted = static_cast<unsigned>(codes[c]) << (bit % 8);
    packed[byte] = static_cast<std::uint8_t>(packed[byte] | (shifted & 0xFFU));
    if (shifted > 0xFFU) packed[byte + 1] = static_cast<std::uint8_t>(packed[byte + 1] | (shifted >> 8U));
  }
}

struct Rounder {
  HalfRounding rounding;
  MLA_INLINE float half(float x) const { return static_cast<float>(at::Half(x)); }
  float step(float x) const { return rounding == HalfRounding::kEveryStep ? half(x) : x; }
  float result(float x) const { return rounding == HalfRounding::kNone ? x : half(x); }
};

/// What decoding a row needs to know, whatever the grouping.
struct DecodePlan {
  CodeForm form;
  const float* scale;
  const float* zero;
  const float* codebook;
  HalfRounding rounding;
};

/// `count` codes whose scales are scale[0], scale[step], … : step 0 within a group, step 1 across channels.
template <class Formula>
MLA_INLINE void decode_run(const std::uint8_t* codes, std::int64_t count, const float* scale, const float* zero,
                           std::int64_t step, float* out, const Formula& formula) {
  if (step == 0) {
    const float s = *scale, z = *zero;
    for (std::int64_t i = 0; i < count; ++i) out[i] = formula(codes[i], s, z);
  } else {
    for (std::int64_t i = 0; i < count; ++i) out[i] = formula(codes[i], scale[i], zero[i]);
  }
}

MLA_VECTORISED void decode_scaled_plus_zero(const std::uint8_t* codes, std::int64_t count, const float* scale,
                                            const float* zero, std::int64_t step, float* out) {
  decode_run(codes, count, scale, zero, step, out,
             [](std::uint8_t code, float s, float z) { return static_cast<float>(code) * s + z; });
}

MLA_VECTORISED void decode_less_zero_scaled(const std::uint8_t* codes, std::int64_t count, const float* scale,
                                            const float* zero, std::int64_t step, float* out) {
  decode_run(codes, count, scale, zero, step, out,
             [](std::uint8_t code, float s, float z) { return (static_cast<float>(code) - z) * s; });
}

void decode_rounding(const DecodePlan& plan, const std::uint8_t* codes, std::int64_t count, const float* scale,
                     const float* zero, std::int64_t step, float* out) {
  const Rounder round{plan.rounding};
  switch (plan.form) {
    case CodeForm::kScaledPlusZero:
      return decode_run(codes, count, scale, zero, step, out, [&](std::uint8_t code, float s, float z) {
        return round.result(round.step(static_cast<float>(code) * s) + z);
      });
    case CodeForm::kLessZeroScaled:
      return decode_run(codes, count, scale, zero, step, out, [&](std::uint8_t code, float s, float z) {
        return round.result(round.step(static_cast<float>(code) - z) * s);
      });
    case CodeForm::kPlusZeroDivided:
      return decode_run(codes, count, scale, zero, step, out, [&](std::uint8_t code, float s, float z) {
        return round.result(round.step(static_cast<float>(code) + z) / s);
      });
    case CodeForm::kCodebook:
      return decode_run(codes, count, scale, zero, step, out, [&](std::uint8_t code, float s, float z) {
        return round.result(round.step(plan.codebook[code] * s) + z);
      });
  }
}

void decode_codes(const DecodePlan& plan, const std::uint8_t* codes, std::int64_t count, const float* scale,
                  const float* zero, std::int64_t step, float* out) {
  if (plan.rounding == HalfRounding::kNone && plan.form == CodeForm::kScaledPlusZero) {
    return decode_scaled_plus_zero(codes, count, scale, zero, step, out);
  }
  if (plan.rounding == HalfRounding::kNone && plan.form == CodeForm::kLessZeroScaled) {
    return decode_less_zero_scaled(codes, count, scale, zero, step, out);
  }
  decode_rounding(plan, codes, count, scale, zero, step, out);
}

/// One row, in runs that share a group or have consecutive ones.
void decode_row(const DecodePlan& plan, const Packed& packed, std::int64_t row, std::int64_t strided_groups,
                const std::uint8_t* codes, float* out) {
  const std::int64_t width = packed.width(), first = row * width;
  if (packed.grouping == Grouping::kRows || packed.grouping == Grouping::kOffline) {
    const std::int64_t at = packed.grouping == Grouping::kRows ? row / packed.group * width : 0;
    return decode_codes(plan, codes, width, plan.scale + at, plan.zero + at, 1, out);
  }
  const bool strided = packed.grouping == Grouping::kStrided;
  for (std::int64_t c = 0; c < width;) {
    const std::int64_t f = first + c;
    const std::int64_t period = strided ? strided_groups : packed.group;
    const std::int64_t count = std::min(width - c, period - f % period);
    const std::int64_t group = strided ? f % period : f / period;
    decode_codes(plan, codes + c, count, plan.scale + group, plan.zero + group, strided ? 1 : 0, out + c);
    c += count;
  }
}

/// Puts the exact elements in their places.
void restore_sparse(const SparseRows& sparse, std::int64_t rows, std::int64_t width, float* out) {
  const std::int32_t* end = sparse.end.const_data_ptr<std::int32_t>();
  const std::int16_t* channel = sparse.channel.const_data_ptr<std::int16_t>();
  const at::Half* value = sparse.value.const_data_ptr<at::Half>();
  std::int32_t entry = 0;
  for (std::int64_t row = 0; row < rows; ++row) {
    for (; entry < end[row]; ++entry) out[row * width + static_cast<std::uint16_t>(channel[entry])] = value[entry];
  }
}

std::int64_t rows_of(const std::vector<std::int64_t>& shape) {
  std::int64_t rows = 1;
  for (std::size_t i = 0; i + 1 < shape.size(); ++i) rows *= shape[i];
  return rows;
}

}  // namespace

std::int64_t Packed::bytes() const {
  if (!sparse.spread.defined()) return buffer_bytes();
  Packed dense = *this;
  dense.sparse = {};
  return dense.buffer_bytes() + kRowEndBytes * sparse.rows() + kEntryBytes * sparse.entries();
}

std::int64_t Packed::buffer_bytes() const {
  std::int64_t total = static_cast<std::int64_t>(codes.nbytes());
  if (grouping != Grouping::kOffline) total += static_cast<std::int64_t>(scale.nbytes() + zero.nbytes());
  for (const at::Tensor& part : {sparse.end, sparse.channel, sparse.value, sparse.spread}) {
    if (part.defined()) total += static_cast<std::int64_t>(part.nbytes());
  }
  return total;
}

Packed to_device(Packed packed, at::Device device) {
  SparseRows& sparse = packed.sparse;
  for (at::Tensor* part : {&packed.codes, &packed.scale, &packed.zero, &packed.codebook, &packed.fault, &sparse.end,
                           &sparse.channel, &sparse.value, &sparse.spread}) {
    if (part->defined()) *part = part->to(device);
  }
  return packed;
}

at::Tensor pack_rows(const at::Tensor& codes, int bits) {
  if (!has_codec_kernels(codes)) return pack_rows_by_operations(codes, bits);
  const at::Tensor dense = codes.contiguous();
  std::vector<std::int64_t> shape = dense.sizes().vec();
  const std::int64_t width = shape.back(), rows = rows_of(shape), bytes = packed_row_bytes(width, bits);
  shape.back() = bytes;
  at::Tensor packed = at::empty(shape, at::kByte);
  const std::uint8_t* from = dense.const_data_ptr<std::uint8_t>();
  std::uint8_t* to = packed.mutable_data_ptr<std::uint8_t>();
  for (std::int64_t row = 0; row < rows; ++row) pack_row(from + row * width, width, bits, to + row * bytes);
  return packed;
}

at::Tensor unpack_rows(const at::Tensor& packed, std::int64_t width, int bits) {
  if (!has_codec_kernels(packed)) return unpack_rows_by_operations(packed, width, bits);
  const at::Tensor dense = packed.contiguous();
  std::vector<std::int64_t> shape = dense.sizes().vec();
  const std::int64_t rows = rows_of(shape);
  expects(shape.back() == packed_row_bytes(width, bits), "packed rows of another width");
  shape.back() = width;
  at::Tensor codes = at::empty(shape, at::kByte);
  unpack_kernel(dense.const_data_ptr<std::uint8_t>(), rows, width, bits, codes.mutable_data_ptr<std::uint8_t>());
  return codes;
}

at::Tensor unpack_codes(const Packed& packed) { return unpack_rows(packed.codes, packed.width(), packed.bits); }

PackedFormat format_of(const Packed& packed) {
  return {packed.bits, packed.grouping, packed.group, packed.form, packed.rounding, packed.scale.scalar_type()};
}

at::Tensor decode(const Packed& packed) {
  if (!has_codec_kernels(packed.codes) || packed.sparse.spread.defined()) return decode_by_operations(packed);
  at::Tensor out = at::empty(packed.shape, at::kFloat);
  const at::Tensor codes = unpack_codes(packed);
  const at::Tensor scale = packed.scale.to(at::kFloat).contiguous(), zero = packed.zero.to(at::kFloat).contiguous();
  const DecodePlan plan{packed.form, scale.const_data_ptr<float>(), zero.const_data_ptr<float>(),
                        packed.codebook.defined() ? packed.codebook.const_data_ptr<float>() : nullptr, packed.rounding};
  const std::int64_t width = packed.width(), rows = rows_of(packed.shape);
  const std::int64_t strided_groups = packed.group > 0 ? std::max<std::int64_t>(1, rows * width / packed.group) : 1;
  const std::uint8_t* from = codes.const_data_ptr<std::uint8_t>();
  float* to = out.mutable_data_ptr<float>();
  at::parallel_for(0, rows, std::max<std::int64_t>(1, kDecodedTogether / std::max<std::int64_t>(width, 1)),
                   [&](std::int64_t begin, std::int64_t end) {
                     for (std::int64_t row = begin; row < end; ++row) {
                       decode_row(plan, packed, row, strided_groups, from + row * width, to + row * width);
                     }
                   });
  if (packed.sparse.end.defined()) restore_sparse(packed.sparse, rows, width, to);
  return out;
}

}  // namespace mla
