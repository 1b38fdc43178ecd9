// Writing GGUF files (version 3, little-endian): metadata in the order it is given, then tensors, aligned.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "core/base/error.h"
#include "core/gguf/element_type.h"
#include "core/gguf/file.h"

namespace mla::gguf {

/// The kind of value that files hold a C++ number as.
template <class Number>
constexpr ValueType value_type_of() {
  if constexpr (std::is_same_v<Number, bool>) {
    return ValueType::kBool;
  } else if constexpr (std::is_floating_point_v<Number>) {
    static_assert(sizeof(Number) == 4 || sizeof(Number) == 8);
    return sizeof(Number) == 4 ? ValueType::kFloat32 : ValueType::kFloat64;
  } else {
    static_assert(std::is_integral_v<Number>);
    constexpr ValueType kSigned[] = {ValueType::kInt8, ValueType::kInt16, ValueType::kInt32, ValueType::kInt64};
    constexpr ValueType kUnsigned[] = {ValueType::kUint8, ValueType::kUint16, ValueType::kUint32, ValueType::kUint64};
    constexpr int kPlace = sizeof(Number) == 1 ? 0 : sizeof(Number) == 2 ? 1 : sizeof(Number) == 4 ? 2 : 3;
    return std::is_signed_v<Number> ? kSigned[kPlace] : kUnsigned[kPlace];
  }
}

/// Takes the next bytes of a tensor.
using PutBytes = std::function<void(const void* bytes, std::size_t count)>;
/// Gives all bytes of a tensor to `put`, in as many pieces as it likes.
using TensorBytes = std::function<void(const PutBytes& put)>;

/// Collects what a file is to hold, and writes it. Tensors give their bytes when they are written, one after another,
/// so that a file may be larger than memory. A key or tensor that stands there already is a broken promise
/// (std::logic_error), and so is a tensor whose name, shape or bytes do not fit its type.
class Writer {
 public:
  template <class Number>
  Writer& number(const std::string& key, Number value) {
    return add(key, value_type_of<Number>(), bytes_of(value));
  }
  Writer& text(const std::string& key, std::string_view value);
  Writer& texts(const std::string& key, const std::vector<std::string>& values);
  template <class Number>
  Writer& numbers(const std::string& key, const std::vector<Number>& values) {
    std::string bytes;
    for (const Number value : values) bytes += bytes_of(value);
    return add_array(key, value_type_of<Number>(), values.size(), bytes);
  }
  /// A value as it stands in another file.
  Writer& copy(const std::string& key, const Value& value);

  /// `shape` rows first, as everywhere here; rows are whole blocks of the type.
  Writer& tensor(std::string name, std::vector<std::int64_t> shape, const ElementType& type, TensorBytes bytes);

  /// Writes under a temporary name and renames. Throws DataError naming the path and the system's reason; the file that
  /// stood there before then stays.
  void write(const std::filesystem::path& path) const;

  /// Of the file that write() makes.
  std::uint64_t file_size() const;

 private:
  struct Planned {
    Tensor entry;  ///< without data
    TensorBytes bytes;
  };
  template <class Number>
  static std::string bytes_of(Number number) {
    std::string bytes(sizeof number, '\0');
    std::memcpy(bytes.data(), &number, sizeof number);
    return bytes;
  }
  static std::string counted(std::string_view text);
  Writer& add(const std::string& key, ValueType type, std::string_view bytes);
  Writer& add_array(const std::string& key, ValueType type, std::size_t count, std::string_view bytes);
  std::string head() const;

  std::string keys_;
  std::vector<std::string> names_;  ///< of keys
  std::vector<Planned> tensors_;
};

}  // namespace mla::gguf
