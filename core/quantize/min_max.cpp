#include "core/quantize/min_max.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <limits>
#include <numeric>

#include "core/base/error.h"
#include "core/ops/vector_math.h"
#include "core/quantize/limits.h"
#include "core/quantize/packed_operations.h"

namespace mla {
namespace {

constexpr float kToInteger = 12582912.0F;  // 1.5 * 2^23: adding it rounds to whole numbers, halves to even

struct AsFloat {
  MLA_INLINE float operator()(float x) const { return x; }
};
struct AsHalf {
  float operator()(float x) const { return static_cast<float>(at::Half(x)); }
};

template <class Round>
MLA_INLINE std::uint8_t code_of(float x, float low, float scale, float levels, const Round& round) {
  float y = round(round(x - low) / scale);
  y = y > 0 ? y : 0;  // also where 0 / 0 gave no number
  y = y < levels ? y : levels;
  return static_cast<std::uint8_t>(y + kToInteger - kToInteger);
}

struct Groups {
  const float* x;
  GroupView view;
  float levels, empty_range_scale;
  std::uint8_t* codes;
  float* scale;
  float* zero;
};

/// Groups of consecutive elements.
template <class Round>
MLA_INLINE void encode_contiguous(const Groups& groups, const Round& round) {
  const std::int64_t size = groups.view.group;
  for (std::int64_t g = 0; g < groups.view.outer; ++g) {
    const float* x = groups.x + g * size;
    float low = x[0], high = x[0];
#pragma omp simd reduction(min : low) reduction(max : high)
    for (std::int64_t i = 0; i < size; ++i) {
      low = x[i] < low ? x[i] : low;
      high = x[i] > high ? x[i] : high;
    }
    const float range = round(high - low);
    const float scale = range > 0 ? round(range / groups.levels) : groups.empty_range_scale;
    for (std::int64_t i = 0; i < size; ++i) {
      groups.codes[g * size + i] = code_of(x[i], low, scale, groups.levels, round);
    }
    groups.scale[g] = scale;
    groups.zero[g] = low;
  }
}

/// Groups along the middle dimension: one for each of the inner elements.
template <class Round>
MLA_INLINE void encode_across(const Groups& groups, const Round& round) {
  const std::int64_t inner = groups.view.inner, size = groups.view.group;
  for (std::int64_t o = 0; o < groups.view.outer; ++o) {
    const float* x = groups.x + o * size * inner;
    float* low = groups.zero + o * inner;
    float* high = groups.scale + o * inner;
    std::copy_n(x, inner, low);
    std::copy_n(x, inner, high);
    for (std::int64_t g = 1; g < size; ++g) {
      for (std::int64_t j = 0; j < inner; ++j) {
        const float value = x[g * inner + j];
        low[j] = value < low[j] ? value : low[j];
        high[j] = value > high[j] ? value : high[j];
      }
    }
    for (std::int64_t j = 0; j < inner; ++j) {
      const float range = round(high[j] - low[j]);
      high[j] = range > 0 ? round(range / groups.levels) : groups.empty_range_scale;
    }
    std::uint8_t* codes = groups.codes + o * size * inner;
    for (std::int64_t g = 0; g < size; ++g) {
      for (std::int64_t j = 0; j < inner; ++j) {
        codes[g * inner + j] = code_of(x[g * inner + j], low[j], high[j], groups.levels, round);
      }
    }
  }
}

MLA_VECTORISED void encode_float(const Groups& groups) {
  if (groups.view.inner == 1) {
    encode_contiguous(groups, AsFloat{});
  } else {
    encode_across(groups, AsFloat{});
  }
}

void encode_half(const Groups& groups) {
  if (groups.view.inner == 1) {
    encode_contiguous(groups, AsHalf{});
  } else {
    encode_across(groups, AsHalf{});
  }
}

/// Codes [outer, group, inner], scales and zeros [outer, 1, inner], float32.
struct MinMaxCodes {
  at::Tensor codes, scale, zero;
};

float levels_of(const MinMaxOptions& options) { return static_cast<float>((1 << options.bits) - 1); }

MinMaxCodes encoded_on_host(const at::Tensor& values, const MinMaxOptions& options) {
  const GroupView view = view_groups(values.sizes(), options.layout);
  MinMaxCodes made{at::empty({view.outer, view.group, view.inner}, at::kByte),
                   at::empty({view.outer, 1, view.inner}, at::kFloat),
                   at::empty({view.outer, 1, view.inner}, at::kFloat)};
  const Groups groups{values.const_data_ptr<float>(),
                      view,
                      levels_of(options),
                      options.empty_range_scale,
                      made.codes.mutable_data_ptr<std::uint8_t>(),
                      made.scale.mutable_data_ptr<float>(),
                      made.zero.mutable_data_ptr<float>()};
  if (options.dtype == CodecDtype::kFloat16) {
    encode_half(groups);
  } else {
    encode_float(groups);
  }
  return made;
}

/// The same by LibTorch's operations, where the values stand.
MinMaxCodes encoded_there(const at::Tensor& values, const MinMaxOptions& options) {
  const GroupView view = view_groups(values.sizes(), options.layout);
  const auto round = [&](const at::Tensor& x) { return options.dtype == CodecDtype::kFloat16 ? as_half(x) : x; };
  const at::Tensor groups = values.view({view.outer, view.group, view.inner});
  const auto [low, high] = at::aminmax(groups, 1, true);
  const double levels = levels_of(options);
  const at::Tensor range = round(high - low);
  const at::Tensor scale =
      at::where(range.gt(0), round(range / number_beside(range, levels)), double{options.empty_range_scale});
  const at::Tensor steps = round(round(groups - low) / scale);
  return {at::round(steps.clamp(0, levels).nan_to_num(0.0)).to(at::kByte), scale, low};
}

std::int64_t elements_of(std::span<const std::int64_t> shape) {
  std::int64_t elements = 1;
  for (const std::int64_t size : shape) elements *= size;
  return elements;
}

}  // namespace

std::vector<std::pair<std::string, CodecDtype>> enum_names(CodecDtype) {
  return {{"float32", CodecDtype::kFloat32},
          {"float16", CodecDtype::kFloat16},
          {"f32", CodecDtype::kFloat32},
          {"f16", CodecDtype::kFloat16}};
}

std::vector<std::pair<std::string, StreamSide>> enum_names(StreamSide) {
  return {{"auto", StreamSide::kAuto},
          {"K", StreamSide::kKey},
          {"V", StreamSide::kValue},
          {"k", StreamSide::kKey},
          {"v", StreamSide::kValue}};
}

StreamSide side_of(StreamSide chosen, const std::string& stream) {
  if (chosen != StreamSide::kAuto) return chosen;
  return stream == "value" ? StreamSide::kValue : StreamSide::kKey;
}

std::string shape_text(std::span<const std::int64_t> shape) {
  std::string text;
  for (const std::int64_t size : shape) text += (text.empty() ? "" : " x ") + std::to_string(size);
  return text;
}

GroupView view_groups(std::span<const std::int64_t> shape, const GroupLayout& layout) {
  const std::int64_t elements = elements_of(shape), width = shape.back(), group = layout.group;
  switch (layout.grouping) {
    case Grouping::kContiguous:
      return {elements / group, group, 1};
    case Grouping::kRows:
      return {elements / width / group, group, width};
    case Grouping::kStrided:
      return {1, group, elements / group};
    case Grouping::kOffline:
      break;
  }
  throw std::logic_error("offline scales have no groups");
}

std::vector<std::int64_t> scale_shape(std::span<const std::int64_t> shape, const GroupLayout& layout) {
  std::vector<std::int64_t> stored(shape.begin(), shape.end());
  const std::size_t tokens = stored.size() - 2;
  if (layout.grouping == Grouping::kContiguous && shape.back() % layout.group == 0) {
    stored.back() /= layout.group;
  } else if (layout.grouping == Grouping::kRows && stored[tokens] % layout.group == 0) {
    stored[tokens] /= layout.group;
  } else {
    stored = {elements_of(shape) / layout.group};
  }
  return stored;
}

void check_bits(int bits, const std::string& path) {
  if (bits < 1 || bits > 8) throw ConfigError(cat(path, ".bits = ", bits, ": known: 1, 2, 3, 4, 5, 6, 7, 8"));
}

void check_group(std::int64_t group, int bits, const std::string& path) {
  if (group < 1) throw ConfigError(cat(path, ".group_size = ", group, ": is less than 1"));
  const std::int64_t unit = 8 / std::gcd(8, bits);
  if (group % unit != 0) {
    const bool countable = group <= std::numeric_limits<std::int64_t>::max() / bits;
    throw ConfigError(cat(path, ".group_size = ", group, ": ", group, " codes of ", bits, " bits are ",
                          countable ? cat(group * bits, " bits, ") : "", "not whole bytes; use a multiple of ", unit));
  }
}

void check_divides(std::int64_t size, const char* what, std::span<const std::int64_t> shape, std::int64_t group,
                   int bits, const std::string& path) {
  if (size % group == 0) return;
  throw ConfigError(cat(path, ".group_size = ", group, ": does not divide the ", size, what, " of a tensor of shape ",
                        shape_text(shape), "; sizes that do: ", fitting_groups(size, bits)));
}

void check_layout(std::span<const std::int64_t> shape, const GroupLayout& layout, const std::string& path) {
  if (shape.size() < 2) {
    throw ConfigError(cat(path, ": a tensor of ", shape.size(), " dimensions; expected [..., tokens, width]"));
  }
  const std::int64_t elements = elements_of(shape);
  if (elements == 0) throw ConfigError(cat(path, ": a tensor of shape ", shape_text(shape), " holds no elements"));
  const bool rows = layout.grouping == Grouping::kRows;
  const std::int64_t whole = rows ? elements / shape.back() : elements;
  if (whole % layout.group != 0) {
    throw ConfigError(cat(path, ".group_size = ", layout.group, ": does not divide the ", whole,
                          rows ? " tokens of all heads" : " elements", " of a tensor of shape ", shape_text(shape)));
  }
}

std::int64_t grouped_bytes(std::span<const std::int64_t> shape, int bits, std::int64_t group, CodecDtype dtype) {
  const std::int64_t elements = elements_of(shape), rows = elements / shape.back();
  return rows * packed_row_bytes(shape.back(), bits) + elements / group * 2 * (dtype == CodecDtype::kFloat32 ? 4 : 2);
}

PackedFormat min_max_format(int bits, const GroupLayout& layout, CodecDtype dtype) {
  const bool half = dtype == CodecDtype::kFloat16;
  return {bits,
          layout.grouping,
          layout.group,
          CodeForm::kScaledPlusZero,
          half ? HalfRounding::kEveryStep : HalfRounding::kNone,
          half ? at::kHalf : at::kFloat};
}

Packed encode_min_max(const at::Tensor& x, const MinMaxOptions& options) {
  const bool half = options.dtype == CodecDtype::kFloat16, here = x.is_cpu();
  const at::Tensor values = (half ? x.to(at::kHalf) : x).to(at::kFloat).contiguous();
  if (here) expect_encodable(x, values, options.codec);
  MinMaxCodes found = has_codec_kernels(values) ? encoded_on_host(values, options) : encoded_there(values, options);
  const PackedFormat format = min_max_format(options.bits, options.layout, options.dtype);
  const std::vector<std::int64_t> stored = scale_shape(values.sizes(), options.layout);
  Packed packed;
  packed.bits = format.bits;
  packed.shape = values.sizes().vec();
  packed.grouping = format.grouping;
  packed.group = format.group;
  packed.form = format.form;
  packed.codes = pack_rows(found.codes.view(values.sizes()), options.bits);
  packed.scale = found.scale.to(format.scales).reshape(stored);
  packed.zero = found.zero.to(format.scales).reshape(stored);
  packed.rounding = format.rounding;
  if (here) expect_decodable(packed, options.codec);
  return packed;
}

}  // namespace mla
