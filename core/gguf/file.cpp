#include "core/gguf/file.h"

#include <algorithm>
#include <fstream>
#include <set>
#include <utility>

#include "core/base/error.h"
#include "core/gguf/values.h"

namespace mla::gguf {
namespace {

constexpr std::string_view kMagic = "GGUF";
constexpr std::uint32_t kOldestVersion = 2, kNewestVersion = 3;
constexpr std::uint64_t kDefaultAlignment = 32, kMostAlignment = 1 << 20;
/// Far beyond every published model: a hostile count ends here, not in an hour of reading.
constexpr std::uint64_t kMostKeys = 4096, kMostTensors = 100'000;
constexpr std::size_t kMostKeyBytes = 65535, kMostNameBytes = 64, kMostDims = 4;

struct Counts {
  std::uint64_t tensors = 0, keys = 0;
};

[[noreturn]] void refuse_start(const MappedFile& map, std::uint32_t version) {
  const std::string name = map.path().string();
  const std::uint32_t swapped = __builtin_bswap32(version);
  if (swapped >= 1 && swapped <= kNewestVersion)
    throw DataError(cat(name, ": a big-endian GGUF file, which is not read"));
  throw DataError(
      cat(name, ": GGUF version ", version, ": this program reads ", kOldestVersion, " and ", kNewestVersion));
}

Counts read_start(ByteReader& reader, const MappedFile& map) {
  const std::string name = map.path().string();
  const std::string_view begin(reinterpret_cast<const char*>(map.data()), std::min(map.size(), kMagic.size()));
  if (begin != kMagic) throw DataError(cat(name, ": begins with '", brief_text(begin), "', not with GGUF"));
  reader.skip(kMagic.size(), "the header");
  const auto version = reader.number<std::uint32_t>("the header");
  if (version < kOldestVersion || version > kNewestVersion) refuse_start(map, version);
  Counts counts;
  counts.tensors = reader.number<std::uint64_t>("the header");
  counts.keys = reader.number<std::uint64_t>("the header");
  if (counts.tensors > kMostTensors)
    throw DataError(cat(name, ": says it has ", counts.tensors, " tensors; at most ", kMostTensors));
  if (counts.keys > kMostKeys) throw DataError(cat(name, ": says it has ", counts.keys, " keys; at most ", kMostKeys));
  return counts;
}

std::map<std::string, Value> read_values(ByteReader& reader, std::uint64_t count, const std::string& name) {
  std::map<std::string, Value> values;
  for (std::uint64_t i = 0; i < count; ++i) {
    const std::string_view key = reader.string(cat("key ", i));
    if (key.empty() || key.size() > kMostKeyBytes)
      throw DataError(cat(name, ": key ", i, " is ", key.size(), " bytes long; 1 to ", kMostKeyBytes));
    const std::string where = cat(name, ": key ", brief_text(key));
    if (!std::all_of(key.begin(), key.end(), [](char c) { return c > ' ' && c <= '~'; }))
      throw DataError(cat(where, ": keys are of ASCII's printable characters alone"));
    const auto [place, is_new] = values.emplace(std::string(key), read_value(reader, where));
    if (!is_new) throw DataError(cat(where, ": stands there twice"));
  }
  return values;
}

/// A whole number that decides how the file itself is read.
std::uint64_t number_or(const std::map<std::string, Value>& values, const char* key, std::uint64_t otherwise,
                        const std::string& name) {
  const auto found = values.find(key);
  if (found == values.end()) return otherwise;
  const Json number = to_json(found->second);
  if (!number.is_number_integer() || number < 0)
    throw DataError(cat(name, ": key ", key, " = ", brief(number), ": expected a whole number"));
  return number.get<std::uint64_t>();
}

std::uint64_t alignment_of(const std::map<std::string, Value>& values, const std::string& name) {
  const std::uint64_t alignment = number_or(values, "general.alignment", kDefaultAlignment, name);
  const bool is_power = alignment != 0 && (alignment & (alignment - 1)) == 0;
  if (!is_power || alignment < 8 || alignment > kMostAlignment)
    throw DataError(
        cat(name, ": key general.alignment = ", alignment, ": expected a power of two from 8 to ", kMostAlignment));
  return alignment;
}

void refuse_parts(const std::map<std::string, Value>& values, const std::string& name) {
  const std::uint64_t parts = number_or(values, "split.count", 0, name);
  if (parts <= 1) return;
  throw DataError(cat(name, ": key split.count = ", parts,
                      ": one part of a model in several files; join them with llama.cpp: llama-gguf-split --merge"));
}

/// Bytes of rows that are whole numbers of blocks.
std::size_t bytes_of_tensor(const Tensor& tensor, const std::string& where) {
  const std::int64_t columns = tensor.shape.back(), block = tensor.type->block;
  if (columns % block != 0)
    throw DataError(cat(where, ": rows of ", columns, " values are no whole blocks of ", tensor.type->name,
                        ", which hold ", block));
  std::int64_t values = 1, bytes = 0;
  bool too_many = false;
  for (const std::int64_t size : tensor.shape) too_many = too_many || __builtin_mul_overflow(values, size, &values);
  too_many = too_many || __builtin_mul_overflow(values / block, static_cast<std::int64_t>(tensor.type->bytes), &bytes);
  if (too_many) throw DataError(cat(where, ": its sizes multiply to more than 2^63"));
  return static_cast<std::size_t>(bytes);
}

/// A tensor's entry, and where its data begin behind the start of all data.
struct Entry {
  Tensor tensor;
  std::uint64_t offset = 0;
};

Entry read_entry(ByteReader& reader, std::uint64_t index, const std::string& name) {
  const std::string what = cat("tensor ", index);
  Entry entry;
  Tensor& tensor = entry.tensor;
  tensor.name = std::string(reader.string(what));
  if (tensor.name.empty() || tensor.name.size() > kMostNameBytes)
    throw DataError(
        cat(name, ": the name of ", what, " is ", tensor.name.size(), " bytes long; 1 to ", kMostNameBytes));
  const std::string where = cat(name, ": tensor ", brief_text(tensor.name));
  const auto dims = reader.number<std::uint32_t>(what);
  if (dims == 0 || dims > kMostDims) throw DataError(cat(where, ": ", dims, " dimensions; 1 to ", kMostDims));
  for (std::uint32_t i = 0; i < dims; ++i) {
    const auto size = reader.number<std::uint64_t>(what);
    if (size == 0 || !std::in_range<std::int64_t>(size))
      throw DataError(cat(where, ": a size of ", size, ": 1 to 2^63 - 1"));
    tensor.shape.insert(tensor.shape.begin(), static_cast<std::int64_t>(size));
  }
  const auto code = reader.number<std::uint32_t>(what);
  tensor.type = find_element_type(code);
  if (!tensor.type)
    throw DataError(cat(where, ": ", name_of_code(code), " is not read; known: ", known_element_types()));
  entry.offset = reader.number<std::uint64_t>(what);
  tensor.bytes = bytes_of_tensor(tensor, where);
  return entry;
}

std::uint64_t rounded_up(std::uint64_t value, std::uint64_t step) { return (value + step - 1) / step * step; }

/// ggml's own reader takes data in the order of the entries, each at the next multiple of the alignment, alone.
std::vector<Tensor> place(std::vector<Entry> entries, const MappedFile& map, std::uint64_t begin,
                          std::uint64_t alignment) {
  const std::string name = map.path().string();
  std::vector<Tensor> tensors;
  std::uint64_t end = begin;
  for (Entry& entry : entries) {
    const std::uint64_t expected = rounded_up(end, alignment);
    const std::string where = cat(name, ": tensor ", brief_text(entry.tensor.name));
    if (entry.offset != expected - begin) {
      throw DataError(cat(where, ": its data are said to begin at byte ", entry.offset,
                          " of all data, those before them end so that they begin at ", expected - begin));
    }
    if (expected > map.size() || entry.tensor.bytes > map.size() - expected) {
      throw DataError(cat(where, ": needs ", entry.tensor.bytes, " bytes from byte ", expected, " on, the file has ",
                          map.size(), " in all: truncated?"));
    }
    entry.tensor.data = map.data() + expected;
    end = expected + entry.tensor.bytes;
    tensors.push_back(std::move(entry.tensor));
  }
  if (!tensors.empty() && map.size() >= end + alignment)
    throw DataError(cat(name, ": ", map.size() - end, " bytes follow the last tensor, which belong to none"));
  return tensors;
}

template <class Number>
std::vector<Number> numbers_of(const Value& value) {
  std::vector<Number> numbers;
  numbers.reserve(value.count);  // as many as the file was seen to hold
  const auto* bytes = reinterpret_cast<const std::byte*>(value.bytes.data());
  for (std::uint64_t i = 0; i < value.count; ++i) numbers.push_back(load<Number>(bytes + i * sizeof(Number)));
  return numbers;
}

std::vector<Entry> read_entries(ByteReader& reader, std::uint64_t count, const std::string& name) {
  std::vector<Entry> entries;
  std::set<std::string> names;
  for (std::uint64_t i = 0; i < count; ++i) {
    entries.push_back(read_entry(reader, i, name));
    const std::string& own = entries.back().tensor.name;
    if (!names.insert(own).second) throw DataError(cat(name, ": tensor ", brief_text(own), ": stands there twice"));
  }
  return entries;
}

}  // namespace

bool is_gguf(const std::filesystem::path& path) {
  if (!std::filesystem::is_regular_file(path)) return false;
  if (path.extension() == kExtension) return true;
  std::string begin(kMagic.size(), '\0');
  std::ifstream file(path, std::ios::binary);
  return file.read(begin.data(), static_cast<std::streamsize>(begin.size())) && begin == kMagic;
}

std::int64_t Tensor::count() const {
  std::int64_t product = 1;
  for (const std::int64_t size : shape) product *= size;
  return product;
}

File::File(const std::filesystem::path& path) : map_(path) {
  const std::string name = path.string();
  ByteReader reader(map_);
  const Counts counts = read_start(reader, map_);
  values_ = read_values(reader, counts.keys, name);
  refuse_parts(values_, name);
  const std::uint64_t alignment = alignment_of(values_, name);
  std::vector<Entry> entries = read_entries(reader, counts.tensors, name);
  tensors_ = place(std::move(entries), map_, rounded_up(reader.position(), alignment), alignment);
}

Json File::metadata() const {
  Json all = Json::object();
  for (const auto& [key, value] : values_) all[key] = to_json(value);
  return all;
}

const Value& File::array(const std::string& key, ValueType type) const {
  const auto found = values_.find(key);
  if (found == values_.end()) throw DataError(cat(path().string(), ": key ", key, " is missing"));
  Value wanted{type, true, found->second.count, {}};
  if (!found->second.is_array || found->second.type != type)
    throw DataError(
        cat(path().string(), ": key ", key, " is ", describe(found->second), ", expected ", describe(wanted)));
  return found->second;
}

std::vector<std::string_view> File::strings(const std::string& key) const {
  return strings_of(array(key, ValueType::kString));
}

std::vector<float> File::floats(const std::string& key) const {
  return numbers_of<float>(array(key, ValueType::kFloat32));
}

std::vector<std::int32_t> File::integers(const std::string& key) const {
  return numbers_of<std::int32_t>(array(key, ValueType::kInt32));
}

}  // namespace mla::gguf
