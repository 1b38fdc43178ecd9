#include "core/model/safetensors.h"

#include <ATen/ATen.h>

#include <array>
#include <cstring>
#include <memory>

#include "core/base/atomic_writer.h"
#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/json.h"
#include "core/base/suggest.h"

namespace mla {
namespace {

constexpr std::size_t kLengthBytes = 8;

struct NamedType {
  const char* name;
  at::ScalarType type;
};
constexpr std::array<NamedType, 10> kTypes = {{{"F64", at::kDouble},
                                               {"F32", at::kFloat},
                                               {"F16", at::kHalf},
                                               {"BF16", at::kBFloat16},
                                               {"I64", at::kLong},
                                               {"I32", at::kInt},
                                               {"I16", at::kShort},
                                               {"I8", at::kChar},
                                               {"U8", at::kByte},
                                               {"BOOL", at::kBool}}};

at::ScalarType type_of(const std::string& name, const std::string& where) {
  std::vector<std::string> known;
  for (const NamedType& entry : kTypes) {
    if (name == entry.name) return entry.type;
    known.emplace_back(entry.name);
  }
  throw DataError(cat(where, ": dtype ", name, " is not supported; known: ", join(known)));
}

const char* name_of(at::ScalarType type) {
  for (const NamedType& entry : kTypes) {
    if (type == entry.type) return entry.name;
  }
  throw std::logic_error(cat("no safetensors dtype for ", c10::toString(type)));
}

/// The header's JSON text, after checking that it lies inside the file.
std::string header_text(const MappedFile& file) {
  const std::string name = file.path().string();
  if (file.size() < kLengthBytes) throw DataError(cat(name, ": truncated: ", file.size(), " bytes, no header"));
  std::uint64_t length = 0;
  std::memcpy(&length, file.data(), kLengthBytes);
  if (length > file.size() - kLengthBytes) {
    throw DataError(cat(name, ": the header says it is ", length, " bytes long, the file has ",
                        file.size() - kLengthBytes, " after the length: truncated, or not a safetensors file"));
  }
  return {reinterpret_cast<const char*>(file.data()) + kLengthBytes, length};
}

struct Entry {
  at::ScalarType type;
  std::vector<std::int64_t> shape;
  std::size_t begin = 0, end = 0;
};

Entry read_entry(const Json& json, const std::string& where, std::size_t data_size) {
  const bool complete = json.is_object() && json.contains("dtype") && json["dtype"].is_string() &&
                        json.contains("shape") && json["shape"].is_array() && json.contains("data_offsets") &&
                        json["data_offsets"].is_array() && json["data_offsets"].size() == 2;
  if (!complete) throw DataError(cat(where, ": expected dtype, shape and two data_offsets, found ", json.dump()));
  Entry entry{type_of(json["dtype"].get<std::string>(), where), {}, 0, 0};
  std::size_t elements = 1;
  for (const Json& size : json["shape"]) {
    if (!size.is_number_unsigned())
      throw DataError(cat(where, ": shape ", json["shape"].dump(), " is not a list of sizes"));
    entry.shape.push_back(size.get<std::int64_t>());
    if (__builtin_mul_overflow(elements, size.get<std::size_t>(), &elements)) {
      throw DataError(cat(where, ": shape ", json["shape"].dump(), " is too large"));
    }
  }
  for (const Json& offset : json["data_offsets"]) {
    if (!offset.is_number_unsigned())
      throw DataError(cat(where, ": data_offsets ", json["data_offsets"].dump(), " are not offsets"));
  }
  entry.begin = json["data_offsets"][0].get<std::size_t>();
  entry.end = json["data_offsets"][1].get<std::size_t>();
  if (entry.begin > entry.end || entry.end > data_size) {
    throw DataError(cat(where, ": data at bytes ", entry.begin, "..", entry.end, " lies outside the file's ", data_size,
                        " data bytes: truncated?"));
  }
  std::size_t bytes = 0;
  if (__builtin_mul_overflow(elements, c10::elementSize(entry.type), &bytes) || entry.end - entry.begin != bytes) {
    throw DataError(cat(where, ": shape ", json["shape"].dump(), " of ", json["dtype"].get<std::string>(), " needs ",
                        bytes, " bytes, the file gives it ", entry.end - entry.begin));
  }
  return entry;
}

at::Tensor view_of(const std::shared_ptr<MappedFile>& file, std::size_t at_byte, const Entry& entry) {
  // The map is read-only; tensors made from it are never written in place.
  void* data = const_cast<std::byte*>(file->data() + at_byte);
  const at::TensorOptions options(entry.type);
  if (reinterpret_cast<std::uintptr_t>(data) % c10::elementSize(entry.type) != 0) {
    at::Tensor copy = at::empty(entry.shape, options);
    std::memcpy(copy.data_ptr(), data, entry.end - entry.begin);
    return copy;
  }
  return at::from_blob(
      data, entry.shape, [file](void*) {}, options);
}

}  // namespace

WeightMap read_safetensors(const std::filesystem::path& path) {
  const auto file = std::make_shared<MappedFile>(path);
  const std::string text = header_text(*file);
  const Json header = parse_json(text, cat(path.string(), " (header)"));
  if (!header.is_object()) throw DataError(cat(path.string(), ": the header is ", kind_of(header), ", not an object"));
  const std::size_t data_at = kLengthBytes + text.size();
  WeightMap tensors;
  for (const auto& [name, json] : header.items()) {
    if (name == "__metadata__") continue;
    const Entry entry = read_entry(json, cat(path.string(), ": ", name), file->size() - data_at);
    tensors.emplace(name, view_of(file, data_at + entry.begin, entry));
  }
  return tensors;
}

void write_safetensors(const std::filesystem::path& path,
                       const std::vector<std::pair<std::string, at::Tensor>>& tensors,
                       const std::function<void()>& before_rename) {
  Json header = Json::object();
  header["__metadata__"] = {{"format", "pt"}};
  std::size_t offset = 0;
  for (const auto& [name, tensor] : tensors) {
    const std::size_t end = offset + tensor.nbytes();
    header[name] = {
        {"dtype", name_of(tensor.scalar_type())}, {"shape", tensor.sizes().vec()}, {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string text = header.dump();
  text.append((kLengthBytes - text.size() % kLengthBytes) % kLengthBytes, ' ');  // keeps the data aligned
  const std::uint64_t length = text.size();

  AtomicWriter file(path);
  file.write(&length, kLengthBytes);
  file.write(text.data(), text.size());
  for (const auto& [name, tensor] : tensors) {
    const at::Tensor dense = tensor.detach().to(at::kCPU).contiguous();
    file.write(dense.data_ptr(), dense.nbytes());
  }
  file.finish(before_rename);
}

}  // namespace mla
