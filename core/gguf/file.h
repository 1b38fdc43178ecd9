// GGUF files (versions 2 and 3, little-endian): metadata by key, and tensors as bytes of a memory map.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/file.h"
#include "core/base/json.h"
#include "core/gguf/element_type.h"

namespace mla::gguf {

inline constexpr const char* kExtension = ".gguf";

/// Whether `path` is a file that is called so, or begins as one.
bool is_gguf(const std::filesystem::path& path);

/// Kinds of values, by their numbers in files.
enum class ValueType : std::uint32_t {
  kUint8 = 0,
  kInt8 = 1,
  kUint16 = 2,
  kInt16 = 3,
  kUint32 = 4,
  kInt32 = 5,
  kFloat32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kUint64 = 10,
  kInt64 = 11,
  kFloat64 = 12,
};

/// A value of the metadata, as it stands in the file.
struct Value {
  ValueType type = ValueType::kUint8;  ///< of an array: of its elements
  bool is_array = false;
  std::uint64_t count = 1;  ///< elements of an array
  std::string_view bytes;   ///< strings with their lengths in front
};

struct Tensor {
  std::string name;
  std::vector<std::int64_t> shape;  ///< as everywhere here, rows first: the reverse of the file's order
  const ElementType* type = nullptr;
  const std::byte* data = nullptr;
  std::size_t bytes = 0;

  std::int64_t count() const;
};

/// A file whose every count, length and offset was checked against its size. Views of it live as long as it does.
class File {
 public:
  /// Throws DataError "<file>: <where>: <what is wrong>" for a file that is no GGUF, is truncated, names a key or a
  /// tensor twice, has tensors of a type that is not read, or whose data do not follow each other as ggml's do, is one
  /// of several parts, or is big-endian.
  explicit File(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return map_.path(); }
  /// In the order of the file.
  const std::vector<Tensor>& tensors() const { return tensors_; }
  const std::map<std::string, Value>& values() const { return values_; }
  bool has(const std::string& key) const { return values_.contains(key); }

  /// All keys with their values; of a long array only what it is, in words. Numbers that the file holds as float32 are
  /// the shortest decimals that stand for them.
  Json metadata() const;

  /// The elements of an array. Throws DataError naming the key when it is absent or of another type.
  std::vector<std::string_view> strings(const std::string& key) const;
  std::vector<float> floats(const std::string& key) const;
  std::vector<std::int32_t> integers(const std::string& key) const;

 private:
  const Value& array(const std::string& key, ValueType type) const;

  MappedFile map_;
  std::map<std::string, Value> values_;
  std::vector<Tensor> tensors_;
};

}  // namespace mla::gguf
