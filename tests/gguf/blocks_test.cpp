// Blocks of every type against what the Python package gguf makes of the same bytes (golden/blocks.txt says how they
// were made); Q8_K, which it does not read, by hand.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <set>
#include <sstream>

#include "core/base/file.h"
#include "core/gguf/element_type.h"
#include "tests/support/gguf_bytes.h"

namespace mla::gguf {
namespace {

std::string from_hex(const std::string& text) {
  std::string bytes;
  for (std::size_t i = 0; i + 1 < text.size(); i += 2)
    bytes += static_cast<char>(std::stoi(text.substr(i, 2), nullptr, 16));
  return bytes;
}

const std::byte* data_of(const std::string& bytes) { return reinterpret_cast<const std::byte*>(bytes.data()); }

const ElementType* type_named(const std::string& name) {
  for (std::uint32_t code = 0; code < 64; ++code) {
    const ElementType* type = find_element_type(code);
    if (type && name == type->name) return type;
  }
  return nullptr;
}

TEST(GgufBlocks, AreWhatTheReferenceMakesOfThem) {
  std::istringstream lines(read_file(std::string(MLA_SOURCE_DIR) + "/tests/gguf/golden/blocks.txt"));
  std::set<std::string> seen;
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("#")) continue;
    std::istringstream words(line);
    std::string name, blocks, values;
    words >> name >> blocks >> values;
    const std::string bytes = from_hex(blocks), golden = from_hex(values);
    const ElementType* type = type_named(name);
    ASSERT_NE(type, nullptr) << name;
    seen.insert(name);
    const std::size_t count = bytes.size() / type->bytes * static_cast<std::size_t>(type->block);
    ASSERT_EQ(bytes.size() % type->bytes, 0u) << name;
    ASSERT_EQ(golden.size(), count * sizeof(float)) << name;
    std::vector<float> made(count);
    dequantize(*type, data_of(bytes), static_cast<std::int64_t>(count), made.data());
    for (std::size_t i = 0; i < count; ++i) {
      float wanted = 0;
      std::memcpy(&wanted, golden.data() + i * sizeof wanted, sizeof wanted);
      ASSERT_EQ(std::bit_cast<std::uint32_t>(made[i]), std::bit_cast<std::uint32_t>(wanted)) << name << " value " << i;
    }
  }
  EXPECT_EQ(seen.size(), 12u) << "every type with a block of its own, and the halves";
}

TEST(GgufBlocks, WholeBytesWithOneScale) {
  std::string block = test::GgufBytes::bytes_of(0.5F);
  for (int i = 0; i < 256; ++i) block += static_cast<char>(i - 128);
  block.resize(292, '\x7f');  // sums, which are not values
  std::vector<float> values(256);
  dequantize(*type_named("Q8_K"), data_of(block), 256, values.data());
  for (int i = 0; i < 256; ++i) EXPECT_EQ(values[static_cast<std::size_t>(i)], 0.5F * static_cast<float>(i - 128));
}

TEST(GgufBlocks, PlainNumbers) {
  float value = 0;
  dequantize(*type_named("F32"), data_of(test::GgufBytes::bytes_of(-1.25F)), 1, &value);
  EXPECT_EQ(value, -1.25F);
  dequantize(*type_named("F64"), data_of(test::GgufBytes::bytes_of(0.1)), 1, &value);
  EXPECT_EQ(value, 0.1F);
  EXPECT_THROW(dequantize(*type_named("I32"), data_of("abcd"), 1, &value), std::logic_error);
  EXPECT_THROW(dequantize(*type_named("Q4_0"), data_of(std::string(18, 'x')), 31, &value), std::logic_error);
}

TEST(GgufBlocks, TypesThatAreNotReadHaveNames) {
  EXPECT_EQ(find_element_type(23), nullptr);
  EXPECT_EQ(name_of_code(23), "IQ4_XS");
  EXPECT_EQ(name_of_code(1234), "type 1234");
  EXPECT_EQ(name_of_code(12), "Q4_K");
  EXPECT_NE(known_element_types().find("Q6_K"), std::string::npos);
}

}  // namespace
}  // namespace mla::gguf
