// One block of each element type as float32, by ggml's definitions. `block` has the bytes, and `values` the room, that
// element_type.cpp states for the type.
#pragma once

#include <cstddef>

namespace mla::gguf {

void decode_f32(const std::byte* block, float* values);
void decode_f64(const std::byte* block, float* values);
void decode_f16(const std::byte* block, float* values);
void decode_bf16(const std::byte* block, float* values);

// 32 values with one scale, "_1" with a smallest value beside it.
void decode_q4_0(const std::byte* block, float* values);
void decode_q4_1(const std::byte* block, float* values);
void decode_q5_0(const std::byte* block, float* values);
void decode_q5_1(const std::byte* block, float* values);
void decode_q8_0(const std::byte* block, float* values);

// 256 values in groups of 16 or 32, whose scales are themselves small integers: the K-quants.
void decode_q2_k(const std::byte* block, float* values);
void decode_q3_k(const std::byte* block, float* values);
void decode_q4_k(const std::byte* block, float* values);
void decode_q5_k(const std::byte* block, float* values);
void decode_q6_k(const std::byte* block, float* values);
void decode_q8_k(const std::byte* block, float* values);

}  // namespace mla::gguf
