#include "core/gguf/element_type.h"

#include <algorithm>
#include <iterator>
#include <vector>

#include "core/base/error.h"
#include "core/base/suggest.h"
#include "core/gguf/blocks.h"

namespace mla::gguf {
namespace {

/// Runs `decode(bytes, values)` on each of the blocks.
template <std::int64_t kValues, std::size_t kBytes, void (*decode)(const std::byte*, float*)>
void each_block(const std::byte* data, std::int64_t blocks, float* values) {
  for (std::int64_t i = 0; i < blocks; ++i) decode(data + static_cast<std::size_t>(i) * kBytes, values + i * kValues);
}

template <std::int64_t kValues, std::size_t kBytes, void (*decode)(const std::byte*, float*)>
constexpr ElementType floating(std::uint32_t code, const char* name) {
  return {code, name, kValues, kBytes, true, each_block<kValues, kBytes, decode>};
}

constexpr ElementType whole(std::uint32_t code, const char* name, std::size_t bytes) {
  return {code, name, 1, bytes, false, nullptr};
}

constexpr ElementType kTypes[] = {floating<1, 4, decode_f32>(0, "F32"),
                                  floating<1, 2, decode_f16>(1, "F16"),
                                  floating<32, 18, decode_q4_0>(2, "Q4_0"),
                                  floating<32, 20, decode_q4_1>(3, "Q4_1"),
                                  floating<32, 22, decode_q5_0>(6, "Q5_0"),
                                  floating<32, 24, decode_q5_1>(7, "Q5_1"),
                                  floating<32, 34, decode_q8_0>(8, "Q8_0"),
                                  floating<256, 84, decode_q2_k>(10, "Q2_K"),
                                  floating<256, 110, decode_q3_k>(11, "Q3_K"),
                                  floating<256, 144, decode_q4_k>(12, "Q4_K"),
                                  floating<256, 176, decode_q5_k>(13, "Q5_K"),
                                  floating<256, 210, decode_q6_k>(14, "Q6_K"),
                                  floating<256, 292, decode_q8_k>(15, "Q8_K"),
                                  whole(24, "I8", 1),
                                  whole(25, "I16", 2),
                                  whole(26, "I32", 4),
                                  whole(27, "I64", 8),
                                  floating<1, 8, decode_f64>(28, "F64"),
                                  floating<1, 2, decode_bf16>(30, "BF16")};

struct CodeName {
  std::uint32_t code;
  const char* name;
};
/// Types of ggml that are not read, for messages.
constexpr CodeName kOthers[] = {{4, "Q4_2"},     {5, "Q4_3"},   {9, "Q8_1"},      {16, "IQ2_XXS"},  {17, "IQ2_XS"},
                                {18, "IQ3_XXS"}, {19, "IQ1_S"}, {20, "IQ4_NL"},   {21, "IQ3_S"},    {22, "IQ2_S"},
                                {23, "IQ4_XS"},  {29, "IQ1_M"}, {31, "Q4_0_4_4"}, {32, "Q4_0_4_8"}, {33, "Q4_0_8_8"},
                                {34, "TQ1_0"},   {35, "TQ2_0"}, {39, "MXFP4"}};

}  // namespace

const ElementType* find_element_type(std::uint32_t code) {
  const auto found = std::find_if(std::begin(kTypes), std::end(kTypes), [&](const auto& t) { return t.code == code; });
  return found == std::end(kTypes) ? nullptr : found;
}

const ElementType* find_element_type(std::string_view name) {
  const auto found = std::find_if(std::begin(kTypes), std::end(kTypes), [&](const auto& t) { return name == t.name; });
  return found == std::end(kTypes) ? nullptr : found;
}

std::string name_of_code(std::uint32_t code) {
  if (const ElementType* known = find_element_type(code)) return known->name;
  for (const CodeName& other : kOthers) {
    if (other.code == code) return other.name;
  }
  return cat("type ", code);
}

std::string known_element_types() {
  std::vector<std::string> names;
  for (const ElementType& type : kTypes) names.emplace_back(type.name);
  return join(names);
}

void dequantize(const ElementType& type, const std::byte* data, std::int64_t count, float* values) {
  expects(type.dequantize && count % type.block == 0, "whole blocks of a floating-point type");
  type.dequantize(data, count / type.block, values);
}

}  // namespace mla::gguf
