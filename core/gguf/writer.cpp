#include "core/gguf/writer.h"

#include <algorithm>
#include <utility>

#include "core/base/atomic_writer.h"

namespace mla::gguf {
namespace {

constexpr std::uint32_t kWrittenVersion = 3;
/// What readers take where no key says otherwise.
constexpr std::uint64_t kWrittenAlignment = 32;
/// ggml's room for a name holds a zero behind it, too.
constexpr std::size_t kMostWrittenName = 63;
constexpr std::size_t kMostWrittenDims = 4;

std::uint64_t aligned(std::uint64_t bytes) {
  return (bytes + kWrittenAlignment - 1) / kWrittenAlignment * kWrittenAlignment;
}

}  // namespace

std::string Writer::counted(std::string_view text) {
  return bytes_of(static_cast<std::uint64_t>(text.size())) + std::string(text);
}

Writer& Writer::add(const std::string& key, ValueType type, std::string_view bytes) {
  expects(!key.empty() && std::find(names_.begin(), names_.end(), key) == names_.end(), "a key stands there once");
  names_.push_back(key);
  keys_ += counted(key) + bytes_of(static_cast<std::uint32_t>(type));
  keys_ += bytes;
  return *this;
}

Writer& Writer::add_array(const std::string& key, ValueType type, std::size_t count, std::string_view bytes) {
  std::string array = bytes_of(static_cast<std::uint32_t>(type)) + bytes_of(static_cast<std::uint64_t>(count));
  array += bytes;
  return add(key, ValueType::kArray, array);
}

Writer& Writer::text(const std::string& key, std::string_view value) {
  return add(key, ValueType::kString, counted(value));
}

Writer& Writer::texts(const std::string& key, const std::vector<std::string>& values) {
  std::string bytes;
  for (const std::string& value : values) bytes += counted(value);
  return add_array(key, ValueType::kString, values.size(), bytes);
}

Writer& Writer::copy(const std::string& key, const Value& value) {
  return value.is_array ? add_array(key, value.type, value.count, value.bytes) : add(key, value.type, value.bytes);
}

Writer& Writer::tensor(std::string name, std::vector<std::int64_t> shape, const ElementType& type, TensorBytes bytes) {
  expects(!name.empty() && name.size() <= kMostWrittenName, "ggml has room for names of 63 bytes");
  expects(std::none_of(tensors_.begin(), tensors_.end(), [&](const auto& one) { return one.entry.name == name; }),
          "a tensor stands there once");
  expects(!shape.empty() && shape.size() <= kMostWrittenDims && shape.back() % type.block == 0,
          "rows are whole blocks of a type");
  Planned planned{{std::move(name), std::move(shape), &type, nullptr, 0}, std::move(bytes)};
  planned.entry.bytes = static_cast<std::size_t>(planned.entry.count() / type.block) * type.bytes;
  expects(planned.entry.bytes > 0, "a tensor holds something");
  tensors_.push_back(std::move(planned));
  return *this;
}

/// Everything before the first tensor's bytes.
std::string Writer::head() const {
  std::string all = "GGUF" + bytes_of(kWrittenVersion) + bytes_of(static_cast<std::uint64_t>(tensors_.size())) +
                    bytes_of(static_cast<std::uint64_t>(names_.size())) + keys_;
  std::uint64_t offset = 0;
  for (const Planned& planned : tensors_) {
    const Tensor& entry = planned.entry;
    all += counted(entry.name) + bytes_of(static_cast<std::uint32_t>(entry.shape.size()));
    for (auto size = entry.shape.rbegin(); size != entry.shape.rend(); ++size)
      all += bytes_of(static_cast<std::uint64_t>(*size));
    all += bytes_of(entry.type->code) + bytes_of(offset);
    offset += aligned(entry.bytes);
  }
  all.resize(static_cast<std::size_t>(aligned(all.size())), '\0');
  return all;
}

std::uint64_t Writer::file_size() const {
  std::uint64_t size = head().size();
  for (const Planned& planned : tensors_) size += aligned(planned.entry.bytes);
  return size;
}

void Writer::write(const std::filesystem::path& path) const {
  AtomicWriter file(path);
  const std::string begin = head();
  file.write(begin.data(), begin.size());
  for (const Planned& planned : tensors_) {
    std::size_t given = 0;
    planned.bytes([&](const void* bytes, std::size_t count) {
      given += count;
      expects(given <= planned.entry.bytes, "a tensor gives no more bytes than its shape has");
      file.write(bytes, count);
    });
    expects(given == planned.entry.bytes, "a tensor gives all of its bytes");
    const std::string padding(static_cast<std::size_t>(aligned(given) - given), '\0');
    file.write(padding.data(), padding.size());
  }
  file.finish({});
}

}  // namespace mla::gguf
