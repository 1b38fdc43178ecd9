// The element types of GGUF tensors: how values are grouped into blocks of bytes, and what those bytes mean.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace mla::gguf {

/// One element type. Rows of a tensor are whole numbers of blocks, one after another.
struct ElementType {
  std::uint32_t code;   ///< in files
  const char* name;     ///< as ggml spells it: "Q4_K"
  std::int64_t block;   ///< values in a block; 1 for plain numbers
  std::size_t bytes;    ///< of a block
  bool floating_point;  ///< false: whole numbers, which no weight is held in
  /// `blocks` blocks as float32, by the definitions of ggml (ggml-common.h, ggml-quants.c); null for whole numbers.
  void (*dequantize)(const std::byte* data, std::int64_t blocks, float* values);
};

/// Null for a code that is not read.
const ElementType* find_element_type(std::uint32_t code);

/// Null for a name that is not read.
const ElementType* find_element_type(std::string_view name);

/// The name of any code that ggml has given away, read here or not; "type 99" for others.
std::string name_of_code(std::uint32_t code);

/// The names of the types that are read, for messages.
std::string known_element_types();

/// `count` values, a whole number of blocks, as float32.
void dequantize(const ElementType& type, const std::byte* data, std::int64_t count, float* values);

}  // namespace mla::gguf
