#include "core/gguf/block_fields.h"
#include "core/gguf/blocks.h"

namespace mla::gguf {
namespace {

constexpr int kBlockValues = 256;

/// The scale and the offset of a group of 32 in Q4_K and Q5_K: six bits each, of which those of the last four groups
/// have their upper two in the bytes of the first ones.
struct ScaleAndOffset {
  int scale, offset;
};
ScaleAndOffset sixes_at(const std::byte* packed, int group) {
  if (group < 4) return {byte_at(packed, group) & 63, byte_at(packed, group + 4) & 63};
  const int both = byte_at(packed, group + 4);
  return {(both & 0xF) | ((byte_at(packed, group - 4) >> 6) << 4), (both >> 4) | ((byte_at(packed, group) >> 6) << 4)};
}

/// The scale of a group of 16 in Q3_K: four bits in the first eight bytes, two more in the last four, 32 subtracted.
int q3_scale(const std::byte* packed, int group) {
  const int low = group < 8 ? byte_at(packed, group) & 0xF : byte_at(packed, group - 8) >> 4;
  const int high = (byte_at(packed, 8 + group % 4) >> (2 * (group / 4))) & 3;
  return (low | (high << 4)) - 32;
}

}  // namespace

/// Two bits a value. Bytes 0 to 31 of the quants hold values 0 to 127, 32 apart in their bit pairs; and so on.
void decode_q2_k(const std::byte* block, float* values) {
  const std::byte *scales = block, *quants = block + 16;
  const float scale = load_half(block + 80), offset = load_half(block + 82);
  for (int i = 0; i < kBlockValues; ++i) {
    const int half = i / 128, pair = i % 128 / 32, both = byte_at(scales, i / 16);
    const float step = scale * static_cast<float>(both & 0xF), below = offset * static_cast<float>(both >> 4);
    const int quant = (byte_at(quants, 32 * half + i % 32) >> (2 * pair)) & 3;
    values[i] = step * static_cast<float>(quant) - below;
  }
}

/// Two bits a value as in Q2_K; a third one in the mask, bit by bit along the block, whose absence subtracts 4.
void decode_q3_k(const std::byte* block, float* values) {
  const std::byte *mask = block, *quants = block + 32, *scales = block + 96;
  const float scale = load_half(block + 108);
  for (int i = 0; i < kBlockValues; ++i) {
    const int half = i / 128, pair = i % 128 / 32;
    const float step = scale * static_cast<float>(q3_scale(scales, i / 16));
    const bool third = (byte_at(mask, i % 32) >> (i / 32)) & 1;
    const int quant = ((byte_at(quants, 32 * half + i % 32) >> (2 * pair)) & 3) - (third ? 0 : 4);
    values[i] = step * static_cast<float>(quant);
  }
}

/// Four bits a value: of each 64, the first 32 are low nibbles and the others high ones.
void decode_q4_k(const std::byte* block, float* values) {
  const float scale = load_half(block), offset = load_half(block + 2);
  const std::byte *scales = block + 4, *quants = block + 16;
  for (int group = 0; group < kBlockValues / 32; ++group) {
    const ScaleAndOffset sixes = sixes_at(scales, group);
    const float step = scale * static_cast<float>(sixes.scale), below = offset * static_cast<float>(sixes.offset);
    for (int i = 0; i < 32; ++i) {
      const int quant = (byte_at(quants, 32 * (group / 2) + i) >> (4 * (group % 2))) & 0xF;
      values[32 * group + i] = step * static_cast<float>(quant) - below;
    }
  }
}

/// As Q4_K, with a fifth bit for each value: bit `group` of byte i.
void decode_q5_k(const std::byte* block, float* values) {
  const float scale = load_half(block), offset = load_half(block + 2);
  const std::byte *scales = block + 4, *fifth = block + 16, *quants = block + 48;
  for (int group = 0; group < kBlockValues / 32; ++group) {
    const ScaleAndOffset sixes = sixes_at(scales, group);
    const float step = scale * static_cast<float>(sixes.scale), below = offset * static_cast<float>(sixes.offset);
    for (int i = 0; i < 32; ++i) {
      const int low = (byte_at(quants, 32 * (group / 2) + i) >> (4 * (group % 2))) & 0xF;
      const int quant = low | (((byte_at(fifth, i) >> group) & 1) << 4);
      values[32 * group + i] = step * static_cast<float>(quant) - below;
    }
  }
}

/// Six bits a value: four in the nibbles (the first 64 of each 128 are low ones), two in the bit pairs behind them.
void decode_q6_k(const std::byte* block, float* values) {
  const std::byte *low = block, *high = block + 128, *scales = block + 192;
  const float scale = load_half(block + 208);
  for (int i = 0; i < kBlockValues; ++i) {
    const int half = i / 128, within = i % 128;
    const int nibble = (byte_at(low, 64 * half + within % 64) >> (4 * (within / 64))) & 0xF;
    const int pair = (byte_at(high, 32 * half + within % 32) >> (2 * (within / 32))) & 3;
    const float step = scale * static_cast<float>(signed_byte_at(scales, i / 16));
    values[i] = step * static_cast<float>((nibble | (pair << 4)) - 32);
  }
}

/// Whole bytes; the sums behind them serve products alone.
void decode_q8_k(const std::byte* block, float* values) {
  const auto scale = load<float>(block);
  for (int i = 0; i < kBlockValues; ++i) values[i] = scale * static_cast<float>(signed_byte_at(block + 4, i));
}

}  // namespace mla::gguf
