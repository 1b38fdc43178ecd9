// GGUF files written by hand, right or wrong.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

namespace mla::test {

/// Puts the bytes of a file together in the order of the calls; alignment 32.
class GgufBytes {
 public:
  // Numbers of value types and element types in files.
  static constexpr std::uint32_t kUint32 = 4, kInt32 = 5, kFloat32 = 6, kBool = 7, kString = 8, kArray = 9;
  static constexpr std::uint32_t kF32 = 0, kQ4_1 = 3, kQ8_0 = 8;

  GgufBytes& number(const std::string& key, std::uint32_t value) { return add(key, kUint32, bytes_of(value)); }
  GgufBytes& number(const std::string& key, float value) { return add(key, kFloat32, bytes_of(value)); }
  GgufBytes& flag(const std::string& key, bool value) { return add(key, kBool, std::string(1, value ? 1 : 0)); }
  GgufBytes& text(const std::string& key, const std::string& value) { return add(key, kString, counted(value)); }
  GgufBytes& texts(const std::string& key, const std::vector<std::string>& values) {
    std::string all;
    for (const std::string& value : values) all += counted(value);
    return add_array(key, kString, values.size(), all);
  }
  GgufBytes& numbers(const std::string& key, const std::vector<std::int32_t>& values) {
    return add_array(key, kInt32, values.size(), bytes_of_all(values));
  }
  GgufBytes& numbers(const std::string& key, const std::vector<float>& values) {
    return add_array(key, kFloat32, values.size(), bytes_of_all(values));
  }
  /// Any value, as bytes behind its type.
  GgufBytes& add(const std::string& key, std::uint32_t type, const std::string& value) {
    keys_ += counted(key) + bytes_of(type) + value;
    ++key_count_;
    return *this;
  }

  /// `shape` rows first, as everywhere here; files have it the other way round.
  GgufBytes& tensor(const std::string& name, const std::vector<std::int64_t>& shape, std::uint32_t type,
                    const std::string& data) {
    data_.resize((data_.size() + kAlignment - 1) / kAlignment * kAlignment, '\0');
    return entry(name, {shape.rbegin(), shape.rend()}, type, data_.size(), data);
  }
  GgufBytes& tensor(const std::string& name, const std::vector<std::int64_t>& shape, const std::vector<float>& values) {
    return tensor(name, shape, kF32, bytes_of_all(values));
  }
  /// An entry with sizes as files have them and any offset.
  GgufBytes& entry(const std::string& name, const std::vector<std::int64_t>& sizes, std::uint32_t type,
                   std::uint64_t offset, const std::string& data) {
    entries_ += counted(name) + bytes_of(static_cast<std::uint32_t>(sizes.size())) + bytes_of_all(sizes) +
                bytes_of(type) + bytes_of(offset);
    data_ += data;
    ++tensor_count_;
    return *this;
  }

  std::string bytes(std::uint32_t version = 3) const {
    std::string all = "GGUF" + bytes_of(version) + bytes_of(tensor_count_) + bytes_of(key_count_) + keys_ + entries_;
    if (tensor_count_ > 0) all.resize((all.size() + kAlignment - 1) / kAlignment * kAlignment, '\0');
    return all + data_;
  }

  template <class Number>
  static std::string bytes_of(Number number) {
    std::string bytes(sizeof number, '\0');
    std::memcpy(bytes.data(), &number, sizeof number);
    return bytes;
  }
  template <class Number>
  static std::string bytes_of_all(const std::vector<Number>& numbers) {
    std::string bytes;
    for (const Number number : numbers) bytes += bytes_of(number);
    return bytes;
  }
  static std::string counted(std::string_view text) {
    return bytes_of(static_cast<std::uint64_t>(text.size())) + std::string(text);
  }

 private:
  static constexpr std::size_t kAlignment = 32;

  GgufBytes& add_array(const std::string& key, std::uint32_t type, std::size_t count, const std::string& elements) {
    return add(key, kArray, bytes_of(type) + bytes_of(static_cast<std::uint64_t>(count)) + elements);
  }

  std::string keys_, entries_, data_;
  std::uint64_t key_count_ = 0, tensor_count_ = 0;
};

}  // namespace mla::test
