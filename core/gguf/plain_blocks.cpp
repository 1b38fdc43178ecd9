#include "core/gguf/block_fields.h"
#include "core/gguf/blocks.h"

namespace mla::gguf {
namespace {

constexpr int kHalf = 16;  // of the 32 values: low nibbles hold the first 16, high nibbles the others

int low_nibble(const std::byte* quants, int i) { return byte_at(quants, i) & 0xF; }
int high_nibble(const std::byte* quants, int i) { return byte_at(quants, i) >> 4; }

/// Bit `i` of the fifth bits, as the 16 that it stands for.
int fifth_bit(std::uint32_t bits, int i) { return static_cast<int>(((bits >> i) & 1U) << 4); }

}  // namespace

void decode_f32(const std::byte* block, float* values) { *values = load<float>(block); }
void decode_f64(const std::byte* block, float* values) { *values = static_cast<float>(load<double>(block)); }
void decode_f16(const std::byte* block, float* values) { *values = load_half(block); }
void decode_bf16(const std::byte* block, float* values) {
  *values = std::bit_cast<float>(static_cast<std::uint32_t>(load<std::uint16_t>(block)) << 16);
}

void decode_q4_0(const std::byte* block, float* values) {
  const float scale = load_half(block);
  const std::byte* quants = block + 2;
  for (int i = 0; i < kHalf; ++i) {
    values[i] = static_cast<float>(low_nibble(quants, i) - 8) * scale;
    values[i + kHalf] = static_cast<float>(high_nibble(quants, i) - 8) * scale;
  }
}

void decode_q4_1(const std::byte* block, float* values) {
  const float scale = load_half(block), least = load_half(block + 2);
  const std::byte* quants = block + 4;
  for (int i = 0; i < kHalf; ++i) {
    values[i] = static_cast<float>(low_nibble(quants, i)) * scale + least;
    values[i + kHalf] = static_cast<float>(high_nibble(quants, i)) * scale + least;
  }
}

void decode_q5_0(const std::byte* block, float* values) {
  const float scale = load_half(block);
  const auto fifth = load<std::uint32_t>(block + 2);
  const std::byte* quants = block + 6;
  for (int i = 0; i < kHalf; ++i) {
    values[i] = static_cast<float>((low_nibble(quants, i) | fifth_bit(fifth, i)) - 16) * scale;
    values[i + kHalf] = static_cast<float>((high_nibble(quants, i) | fifth_bit(fifth, i + kHalf)) - 16) * scale;
  }
}

void decode_q5_1(const std::byte* block, float* values) {
  const float scale = load_half(block), least = load_half(block + 2);
  const auto fifth = load<std::uint32_t>(block + 4);
  const std::byte* quants = block + 8;
  for (int i = 0; i < kHalf; ++i) {
    values[i] = static_cast<float>(low_nibble(quants, i) | fifth_bit(fifth, i)) * scale + least;
    values[i + kHalf] = static_cast<float>(high_nibble(quants, i) | fifth_bit(fifth, i + kHalf)) * scale + least;
  }
}

void decode_q8_0(const std::byte* block, float* values) {
  const float scale = load_half(block);
  for (int i = 0; i < 2 * kHalf; ++i) values[i] = static_cast<float>(signed_byte_at(block + 2, i)) * scale;
}

}  // namespace mla::gguf
