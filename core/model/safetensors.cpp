#include "core/model/safetensors.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <functional>
#include <memory>
#include <numeric>
#include <utility>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/json.h"
#include "core/base/suggest.h"
#include "core/model/safetensors_writer.h"
#include "core/model/weight_pages.h"

namespace mla {
namespace {

constexpr std::size_t kLengthBytes = 8;
/// The longest header that the safetensors library reads, and the most dims that a tensor can be worked with.
constexpr std::uint64_t kMostHeader = 100'000'000;
constexpr std::size_t kMostDims = 64;

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
  throw DataError(cat(where, ": dtype ", brief_text(name), " is not supported; known: ", join(known)));
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
  if (length > kMostHeader)
    throw DataError(cat(name, ": the header is ", length, " bytes long; the format allows ", kMostHeader));
  std::string text(reinterpret_cast<const char*>(file.data()) + kLengthBytes, length);
  if (!text.starts_with('{')) throw DataError(cat(name, ": the header does not begin with {: not a safetensors file"));
  return text;
}

struct Entry {
  at::ScalarType type;
  std::vector<std::int64_t> shape;
  std::size_t begin = 0, end = 0;
};

/// A list of numbers from 0 to 2^63 - 1, at most `most` of them.
std::vector<std::int64_t> read_sizes(const LargeJson& json, std::size_t most, const char* key,
                                     const std::string& where) {
  const auto fits = [](const LargeJson& size) {
    return size.is_number_unsigned() && std::in_range<std::int64_t>(size.get<std::uint64_t>());
  };
  if (!json.is_array() || !std::all_of(json.begin(), json.end(), fits))
    throw DataError(cat(where, ": ", key, " ", brief(json), " is not a list of sizes"));
  if (json.size() > most) throw DataError(cat(where, ": ", key, " has ", json.size(), " entries; at most ", most));
  return json.get<std::vector<std::int64_t>>();
}

/// Bytes of a tensor of this shape. Sizes beside one of 0 are multiplied too: strides are made of them.
std::int64_t bytes_of(const Entry& entry, const LargeJson& shape, const std::string& where) {
  auto bytes = static_cast<std::int64_t>(c10::elementSize(entry.type));
  bool empty = false;
  for (const std::int64_t size : entry.shape) {
    empty = empty || size == 0;
    if (__builtin_mul_overflow(bytes, std::max<std::int64_t>(size, 1), &bytes))
      throw DataError(cat(where, ": shape ", brief(shape), " is too large"));
  }
  return empty ? 0 : bytes;
}

Entry read_entry(const LargeJson& json, const std::string& where, std::size_t data_size) {
  const auto has = [&](const char* key) { return json.is_object() && json.contains(key); };
  if (!has("dtype") || !json["dtype"].is_string() || !has("shape") || !has("data_offsets"))
    throw DataError(cat(where, ": expected dtype, shape and two data_offsets, found ", brief(json)));
  Entry entry{type_of(json["dtype"].get<std::string>(), where), read_sizes(json["shape"], kMostDims, "shape", where)};
  const std::vector<std::int64_t> offsets = read_sizes(json["data_offsets"], 2, "data_offsets", where);
  if (offsets.size() != 2) throw DataError(cat(where, ": data_offsets ", brief(json["data_offsets"]), " are not two"));
  entry.begin = static_cast<std::size_t>(offsets[0]);
  entry.end = static_cast<std::size_t>(offsets[1]);
  if (entry.begin > entry.end || entry.end > data_size) {
    throw DataError(cat(where, ": data at bytes ", entry.begin, "..", entry.end, " lies outside the file's ", data_size,
                        " data bytes: truncated?"));
  }
  const std::int64_t bytes = bytes_of(entry, json["shape"], where);
  if (std::cmp_not_equal(entry.end - entry.begin, bytes)) {
    throw DataError(cat(where, ": shape ", brief(json["shape"]), " of ", name_of(entry.type), " needs ", bytes,
                        " bytes, the file gives it ", entry.end - entry.begin));
  }
  return entry;
}

void check_metadata(const LargeJson& metadata, const std::string& where) {
  if (metadata.is_null()) return;
  if (!metadata.is_object()) throw DataError(cat(where, ": expected an object, found ", kind_of(metadata)));
  for (const auto& [key, value] : metadata.items()) {
    if (!value.is_string())
      throw DataError(cat(where, ".", brief_text(key), " = ", brief(value), ": must be a string"));
  }
}

/// The format gives each byte behind the header to exactly one tensor.
void check_coverage(const std::vector<std::pair<const std::string*, Entry>>& entries, std::size_t data_size,
                    const std::string& where) {
  std::vector<const std::pair<const std::string*, Entry>*> sorted;
  for (const auto& entry : entries) sorted.push_back(&entry);
  std::sort(sorted.begin(), sorted.end(), [](const auto* a, const auto* b) {
    return std::pair(a->second.begin, a->second.end) < std::pair(b->second.begin, b->second.end);
  });
  std::size_t at = 0;
  for (const auto* entry : sorted) {
    const std::size_t begin = entry->second.begin;
    if (begin != at) {
      throw DataError(cat(where, ": ", brief_text(*entry->first), ": its data begin at byte ", begin,
                          begin < at ? ", inside another tensor's, which end at " : ", but those before it end at ", at,
                          ": a safetensors file has neither overlaps nor holes"));
    }
    at = entry->second.end;
  }
  if (at != data_size) {
    throw DataError(cat(where, ": ", data_size - at, " bytes follow the last tensor, which ends at byte ", at, " of ",
                        data_size, ": a safetensors file has no others; cut, or glued together?"));
  }
}

at::Tensor view_of(const std::shared_ptr<MappedFile>& file, std::size_t at_byte, const Entry& entry) {
  // The map is read-only; tensors made from it are never written in place.
  void* data = const_cast<std::byte*>(file->data() + at_byte);
  const at::TensorOptions options(entry.type);
  if (reinterpret_cast<std::uintptr_t>(data) % c10::elementSize(entry.type) != 0) {
    at::Tensor copy = at::empty(entry.shape, options);
    // A tensor without elements has no memory to copy into.
    if (entry.end > entry.begin) std::memcpy(copy.data_ptr(), data, entry.end - entry.begin);
    return copy;
  }
  return at::from_blob(
      data, entry.shape, [file](void*) {}, options);
}

}  // namespace

WeightMap read_safetensors(const std::filesystem::path& path) {
  const auto file = std::make_shared<MappedFile>(path);
  const std::string text = header_text(*file), where = path.string();
  const LargeJson header = parse_large_json(text, where + " (header)");
  const std::size_t data_at = kLengthBytes + text.size(), data_size = file->size() - data_at;
  std::vector<std::pair<const std::string*, Entry>> entries;
  for (auto item = header.begin(); item != header.end(); ++item) {
    if (item.key() == "__metadata__") {
      check_metadata(*item, where + ": __metadata__");
    } else {
      entries.emplace_back(&item.key(), read_entry(*item, cat(where, ": ", brief_text(item.key())), data_size));
    }
  }
  check_coverage(entries, data_size, where);
  WeightMap tensors;
  for (const auto& [name, entry] : entries) tensors.emplace(*name, view_of(file, data_at + entry.begin, entry));
  return tensors;
}

std::int64_t TensorSource::bytes() const {
  return std::accumulate(sizes.begin(), sizes.end(), static_cast<std::int64_t>(c10::elementSize(type)),
                         std::multiplies<>());
}

TensorSource source_of(const std::string& name, const at::Tensor& tensor) {
  return {name, tensor.scalar_type(), tensor.sizes().vec(), [tensor] { return tensor; }};
}

std::vector<TensorSource> sources_of(const std::vector<std::pair<std::string, at::Tensor>>& tensors) {
  std::vector<TensorSource> sources;
  for (const auto& [name, tensor] : tensors) sources.push_back(source_of(name, tensor));
  return sources;
}

std::unique_ptr<AtomicWriter> stage_safetensors(const std::filesystem::path& path,
                                                const std::vector<TensorSource>& tensors) {
  Json header = Json::object();
  header["__metadata__"] = {{"format", "pt"}};
  std::int64_t offset = 0;
  for (const TensorSource& tensor : tensors) {
    const std::int64_t end = offset + tensor.bytes();
    header[tensor.name] = {{"dtype", name_of(tensor.type)}, {"shape", tensor.sizes}, {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string text = header.dump();
  text.append((kLengthBytes - text.size() % kLengthBytes) % kLengthBytes, ' ');  // keeps the data aligned
  const std::uint64_t length = text.size();

  auto file = std::make_unique<AtomicWriter>(path);
  file->write(&length, kLengthBytes);
  file->write(text.data(), text.size());
  for (const TensorSource& source : tensors) {
    const at::Tensor tensor = source.values(), dense = tensor.detach().to(at::kCPU).contiguous();
    expects(dense.scalar_type() == source.type && dense.sizes() == at::IntArrayRef(source.sizes),
            "a tensor is what the header says of it");
    file->write(dense.data_ptr(), dense.nbytes());
    release_pages(tensor);
  }
  file->complete();
  return file;
}

void write_safetensors(const std::filesystem::path& path,
                       const std::vector<std::pair<std::string, at::Tensor>>& tensors,
                       const std::function<void()>& before_rename) {
  stage_safetensors(path, sources_of(tensors))->finish(before_rename);
}

}  // namespace mla
