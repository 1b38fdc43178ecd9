// Min-max (asymmetric, round-to-nearest) encoding over groups of any layout: what most cache codecs share.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/quantize/codec.h"

namespace mla {

/// Arithmetic of an encoder and storage of its scales.
enum class CodecDtype {
  kFloat32,
  kFloat16,  ///< input, every step and the result are rounded to float16, as on float16 tensors; scales are float16
};
std::vector<std::pair<std::string, CodecDtype>> enum_names(CodecDtype);

/// Whether a codec that treats keys and values differently takes a tensor as the one or the other.
enum class StreamSide { kAuto, kKey, kValue };
std::vector<std::pair<std::string, StreamSide>> enum_names(StreamSide);
/// kAuto: values for the stream "value", keys for all others.
StreamSide side_of(StreamSide chosen, const std::string& stream);

/// The group layout of one tensor.
struct GroupLayout {
  Grouping grouping = Grouping::kContiguous;
  std::int64_t group = 0;  ///< elements of a group
};

struct MinMaxOptions {
  int bits = 4;
  GroupLayout layout;
  CodecDtype dtype = CodecDtype::kFloat32;
  float empty_range_scale = 0;  ///< the scale of a group whose elements are all equal; codes are 0 there
  std::string codec{};          ///< in errors
};

/// scale = (max - min) / (2^bits - 1), zero = min, code = round((x - min) / scale), halves to even; the same bits on
/// every device. The layout must fit the tensor (see check_layout). Throws DataError for what cannot be held
/// (core/quantize/limits.h); on another device than the host such a group has a scale or a zero that is no finite
/// number, and expect_sound() finds it.
Packed encode_min_max(const at::Tensor& x, const MinMaxOptions& options);

/// The format of what encode_min_max() gives.
PackedFormat min_max_format(int bits, const GroupLayout& layout, CodecDtype dtype);

/// Bytes of codes and of one scale and zero a group.
std::int64_t grouped_bytes(std::span<const std::int64_t> shape, int bits, std::int64_t group, CodecDtype dtype);

/// Throws ConfigError naming `path` unless groups of this layout tile a tensor of this shape.
void check_layout(std::span<const std::int64_t> shape, const GroupLayout& layout, const std::string& path);

/// Throws ConfigError naming `path` unless groups divide `size` elements, which `what` names; tells the sizes that do.
void check_divides(std::int64_t size, const char* what, std::span<const std::int64_t> shape, std::int64_t group,
                   int bits, const std::string& path);

/// Throws ConfigError naming `path` for bits outside 1 … 8 and for a group whose codes are no whole bytes.
void check_bits(int bits, const std::string& path);
void check_group(std::int64_t group, int bits, const std::string& path);

/// The tensor's shape seen as [outer, group, inner]: group elements are along the middle.
struct GroupView {
  std::int64_t outer = 1, group = 1, inner = 1;
};
GroupView view_groups(std::span<const std::int64_t> shape, const GroupLayout& layout);

/// The shape in which scales and zeros of such a tensor are stored (see Packed).
std::vector<std::int64_t> scale_shape(std::span<const std::int64_t> shape, const GroupLayout& layout);

/// "2 x 3 x 64", for messages.
std::string shape_text(std::span<const std::int64_t> shape);

}  // namespace mla
