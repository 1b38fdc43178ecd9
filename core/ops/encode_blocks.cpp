#include "core/ops/encode_blocks.h"

#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <c10/util/Half.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstring>

#include "core/base/error.h"

namespace mla {
namespace {

using GroupValues = std::array<float, kGroupColumns>;

/// Writes a scale; false where float16 has none for it.
bool put_scale(float scale, std::uint8_t* to) {
  const c10::Half half(scale);
  std::memcpy(to, &half, sizeof(half));
  return std::isfinite(static_cast<float>(half));
}

float inverse_of(float scale) { return scale == 0 ? 0 : 1 / scale; }

void put_nibbles(const std::array<int, kGroupColumns>& codes, std::uint8_t* to) {
  for (std::size_t i = 0; i < kGroupColumns / 2; ++i)
    to[i] = static_cast<std::uint8_t>(codes[i] | codes[i + kGroupColumns / 2] << 4);
}

bool encode_q8_0(const GroupValues& x, std::uint8_t* block) {
  float most = 0;
  for (const float value : x) most = std::max(most, std::abs(value));
  const float scale = most / 127, inverse = inverse_of(scale);
  for (std::size_t i = 0; i < x.size(); ++i)
    block[2 + i] = static_cast<std::uint8_t>(static_cast<int>(std::round(x[i] * inverse)));
  return put_scale(scale, block);
}

/// The number that is farthest from zero becomes code 0, eight scales below zero.
bool encode_q4_0(const GroupValues& x, std::uint8_t* block) {
  float farthest = 0;
  for (const float value : x) farthest = std::abs(value) > std::abs(farthest) ? value : farthest;
  const float scale = farthest / -8, inverse = inverse_of(scale);
  std::array<int, kGroupColumns> codes{};
  for (std::size_t i = 0; i < x.size(); ++i) codes[i] = std::min(static_cast<int>(x[i] * inverse + 8.5F), 15);
  put_nibbles(codes, block + 2);
  return put_scale(scale, block);
}

bool encode_q4_1(const GroupValues& x, std::uint8_t* block) {
  const auto [least, most] = std::minmax_element(x.begin(), x.end());
  const float scale = (*most - *least) / 15, inverse = inverse_of(scale);
  std::array<int, kGroupColumns> codes{};
  for (std::size_t i = 0; i < x.size(); ++i)
    codes[i] = std::min(static_cast<int>((x[i] - *least) * inverse + 0.5F), 15);
  put_nibbles(codes, block + 4);
  const bool scaled = put_scale(scale, block);
  return put_scale(*least, block + 2) && scaled;
}

using EncodeGroup = bool (*)(const GroupValues&, std::uint8_t*);

EncodeGroup encoder_of(BlockKind kind) {
  switch (kind) {
    case BlockKind::kQ8_0:
      return encode_q8_0;
    case BlockKind::kQ4_0:
      return encode_q4_0;
    case BlockKind::kQ4_1:
      return encode_q4_1;
    case BlockKind::kQ4K:
    case BlockKind::kQ6K:
      break;
  }
  return nullptr;
}

}  // namespace

bool encodes_blocks(const BlockFormat& format) { return encoder_of(format.kind) != nullptr; }

std::string encoded_block_names() {
  std::string all;
  for (const BlockFormat& format : block_formats()) {
    if (encodes_blocks(format)) all += cat(all.empty() ? "" : ", ", format.name);
  }
  return all;
}

at::Tensor encode_blocks(const BlockFormat& format, const at::Tensor& x) {
  const EncodeGroup encode = encoder_of(format.kind);
  expects(encode != nullptr, "blocks of this format are made elsewhere");
  const std::int64_t rows = x.size(0), columns = x.size(1), count = blocks_of_row(format, columns);
  const at::Tensor result = at::empty({rows, count * format.bytes}, at::kByte);
  const float* from = x.const_data_ptr<float>();
  std::uint8_t* to = result.mutable_data_ptr<std::uint8_t>();
  std::atomic<bool> good{true};
  at::parallel_for(0, rows, std::max<std::int64_t>(1, 8192 / columns), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin * count; i < end * count; ++i) {
      const std::int64_t row = i / count, first = i % count * kGroupColumns;
      GroupValues values{};
      std::copy_n(from + row * columns + first, std::min(kGroupColumns, columns - first), values.begin());
      const bool finite = std::all_of(values.begin(), values.end(), [](float value) { return std::isfinite(value); });
      if (!finite || !encode(values, to + i * format.bytes)) good = false;
    }
  });
  if (!good) {
    throw DataError(cat("holds numbers that ", format.name,
                        " blocks cannot: they are not finite, or their scale is beyond float16's 65504"));
  }
  return result;
}

}  // namespace mla
