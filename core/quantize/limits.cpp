#include "core/quantize/limits.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <bit>
#include <cmath>

#include "core/base/error.h"
#include "core/quantize/packed_operations.h"

namespace mla {
namespace {

/// Of float32, by its bits: neither infinite nor no number.
bool all_finite(const float* values, std::int64_t count) {
  constexpr std::uint32_t kExponent = 0x7F800000U;
  std::uint32_t odd = 0;
  for (std::int64_t i = 0; i < count; ++i) odd |= (std::bit_cast<std::uint32_t>(values[i]) & kExponent) == kExponent;
  return odd == 0;
}

/// "[1, 0, 5]", the place of element `flat` of a tensor.
std::string place_in(at::IntArrayRef shape, std::int64_t flat) {
  std::string text;
  for (std::size_t i = shape.size(); i-- > 0; flat /= std::max<std::int64_t>(shape[i], 1)) {
    text = std::to_string(flat % std::max<std::int64_t>(shape[i], 1)) + (text.empty() ? "" : ", ") + text;
  }
  return "[" + text + "]";
}

/// What a code stands for, rounded as decode() does.
class CodeValue {
 public:
  CodeValue(CodeForm form, HalfRounding rounding) : form_(form), rounding_(rounding) {}

  float operator()(float code, float scale, float zero) const {
    const float value = in_steps(code, scale, zero);
    return rounding_ == HalfRounding::kNone ? value : static_cast<float>(at::Half(value));
  }

 private:
  float step(float value) const {
    return rounding_ == HalfRounding::kEveryStep ? static_cast<float>(at::Half(value)) : value;
  }
  float in_steps(float code, float scale, float zero) const {
    if (form_ == CodeForm::kLessZeroScaled) return step(code - zero) * scale;
    if (form_ == CodeForm::kPlusZeroDivided) return step(code + zero) / scale;
    return step(code * scale) + zero;
  }

  CodeForm form_;
  HalfRounding rounding_;
};

}  // namespace

void expect_encodable(const at::Tensor& x, const at::Tensor& values, const std::string& codec) {
  if (!values.is_cpu()) {
    if (finite_elements(values).all().item<bool>()) return;
    return expect_encodable(x.to(at::kCPU), values.to(at::kCPU), codec);
  }
  const float* data = values.const_data_ptr<float>();
  if (all_finite(data, values.numel())) return;
  std::int64_t first = 0;
  while (std::isfinite(data[first])) ++first;
  const double given = x.to(at::kCPU).contiguous().view(-1)[first].item<double>();
  const std::string place = cat(codec, ": element ", place_in(values.sizes(), first), " of ", values.sizes());
  if (std::isfinite(given)) {
    throw DataError(cat(place, " is ", given, ", beyond the range of ",
                        std::abs(given) > 3.4e38 ? "float32" : "float16 (65504)", " that the codec computes in"));
  }
  throw DataError(cat(place, " is ", given, "; only finite numbers have codes"));
}

at::Tensor is_sound(const Packed& packed) {
  const at::Tensor scale = packed.scale.to(at::kFloat), zero = packed.zero.to(at::kFloat);
  const bool looked_up = packed.form == CodeForm::kCodebook;
  const at::Tensor low = looked_up ? packed.codebook.min() : number_beside(scale, 0),
                   high = looked_up ? packed.codebook.max() : number_beside(scale, (1 << packed.bits) - 1);
  const at::Tensor sound = finite_elements(at::stack({scale, zero, code_values(packed, low, scale, zero),
                                                      code_values(packed, high, scale, zero)}))
                               .all();
  return packed.fault.defined() ? sound.logical_and(packed.fault.ge(kNoFault)) : sound;
}

void expect_sound(const Packed& packed, const std::string& codec) {
  const std::int64_t fault = packed.fault.defined() ? packed.fault.item<std::int64_t>() : kNoFault;
  if (fault < kNoFault) {
    throw DataError(cat(codec, ": element ", place_in(packed.shape, fault), " of ", at::IntArrayRef(packed.shape),
                        " is no finite number, or beyond the range of float16 (65504) that the codec computes in"));
  }
  expect_decodable(packed, codec);
}

void expect_decodable(const Packed& packed, const std::string& codec) {
  if (!packed.scale.is_cpu()) {
    if (is_sound(packed).item<bool>()) return;
    return expect_decodable(to_device(packed, at::kCPU), codec);
  }
  const at::Tensor scale = packed.scale.to(at::kFloat).contiguous(), zero = packed.zero.to(at::kFloat).contiguous();
  const float *scales = scale.const_data_ptr<float>(), *zeros = zero.const_data_ptr<float>();
  float low = 0, high = static_cast<float>((1 << packed.bits) - 1);
  if (packed.form == CodeForm::kCodebook) {
    low = packed.codebook.min().item<float>();
    high = packed.codebook.max().item<float>();
  }
  const CodeValue value(packed.form, packed.rounding);
  for (std::int64_t group = 0; group < scale.numel(); ++group) {
    const float ends[] = {value(low, scales[group], zeros[group]), value(high, scales[group], zeros[group])};
    if (std::isfinite(scales[group]) && std::isfinite(zeros[group]) && std::isfinite(ends[0]) && std::isfinite(ends[1]))
      continue;
    const bool half = packed.rounding != HalfRounding::kNone || packed.scale.scalar_type() == at::kHalf;
    const bool odd = std::isnan(scales[group]) || std::isnan(zeros[group]);
    throw DataError(cat(codec, ": group ", place_in(scale.sizes(), group), " of ", scale.sizes(), " has the scale ",
                        scales[group], " and the zero ", zeros[group], ", and codes that stand for ", ends[0], " to ",
                        ends[1], ": its elements span more or less than ", half ? "float16 (65504)" : "float32",
                        " can tell", odd ? ", or are no numbers" : ""));
  }
}

std::string fitting_groups(std::int64_t size, int bits) {
  constexpr int kMostTold = 12;
  std::string text;
  int told = 0;
  for (std::int64_t group = 1; group <= size && told < kMostTold; ++group) {
    if (size % group != 0 || group * bits % 8 != 0) continue;
    text += cat(text.empty() ? "" : ", ", group);
    ++told;
  }
  return text.empty() ? "none" : text;
}

}  // namespace mla
