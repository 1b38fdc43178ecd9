#include "core/gguf/values.h"

#include <array>
#include <charconv>
#include <cstdlib>

namespace mla::gguf {
namespace {

/// Arrays up to here are shown by their elements.
constexpr std::uint64_t kShortArray = 16;

struct TypeFacts {
  const char* name;
  std::size_t bytes;  // of a number; of a string at least
};
/// By number.
constexpr std::array<TypeFacts, 13> kFacts = {{{"uint8", 1},
                                               {"int8", 1},
                                               {"uint16", 2},
                                               {"int16", 2},
                                               {"uint32", 4},
                                               {"int32", 4},
                                               {"float32", 4},
                                               {"bool", 1},
                                               {"string", 8},
                                               {"array", 12},
                                               {"uint64", 8},
                                               {"int64", 8},
                                               {"float64", 8}}};

const TypeFacts& facts_of(ValueType type) { return kFacts[static_cast<std::size_t>(type)]; }

ValueType read_type(ByteReader& reader, const std::string& where) {
  const auto code = reader.number<std::uint32_t>("the type of a value");
  if (code >= kFacts.size()) throw DataError(cat(where, ": value type ", code, ": known: 0 to ", kFacts.size() - 1));
  return static_cast<ValueType>(code);
}

/// Past `count` elements of an array, whose number was checked against the bytes that are left.
void skip_elements(ByteReader& reader, const Value& value, const std::string& where) {
  const std::size_t least = facts_of(value.type).bytes;
  if (value.count > reader.left() / least) {
    throw DataError(cat(where, ": ", describe(value), " needs ", least, " bytes each or more, the file has ",
                        reader.left(), " more: truncated, or a wrong count"));
  }
  if (value.type != ValueType::kString) {
    reader.skip(value.count * least, where);
    return;
  }
  for (std::uint64_t i = 0; i < value.count; ++i) reader.string(where);
}

/// The decimal number that the file's author wrote, as far as float32 holds it: 1e-05 rather than 9.99999974737875e-06.
double shortest_decimal(float value) {
  std::array<char, 32> text{};
  const auto end = std::to_chars(text.data(), text.data() + text.size() - 1, value);
  *end.ptr = '\0';
  return std::strtod(text.data(), nullptr);
}

template <class Number>
Json number_at(const std::byte* at) {
  return Json(load<Number>(at));
}

Json scalar_json(ValueType type, const std::byte* at) {
  switch (type) {
    case ValueType::kUint8:
      return number_at<std::uint8_t>(at);
    case ValueType::kInt8:
      return number_at<std::int8_t>(at);
    case ValueType::kUint16:
      return number_at<std::uint16_t>(at);
    case ValueType::kInt16:
      return number_at<std::int16_t>(at);
    case ValueType::kUint32:
      return number_at<std::uint32_t>(at);
    case ValueType::kInt32:
      return number_at<std::int32_t>(at);
    case ValueType::kFloat32:
      return shortest_decimal(load<float>(at));
    case ValueType::kBool:
      return load<std::uint8_t>(at) != 0;
    case ValueType::kUint64:
      return number_at<std::uint64_t>(at);
    case ValueType::kInt64:
      return number_at<std::int64_t>(at);
    case ValueType::kFloat64:
      return number_at<double>(at);
    case ValueType::kString:
    case ValueType::kArray:
      break;
  }
  throw std::logic_error("a string or an array is no number");
}

const std::byte* bytes_of(std::string_view text) { return reinterpret_cast<const std::byte*>(text.data()); }

}  // namespace

Value read_value(ByteReader& reader, const std::string& where) {
  Value value;
  value.type = read_type(reader, where);
  value.is_array = value.type == ValueType::kArray;
  if (value.is_array) {
    value.type = read_type(reader, where);
    if (value.type == ValueType::kArray) throw DataError(cat(where, ": arrays of arrays are not read"));
    value.count = reader.number<std::uint64_t>(where);
  }
  const auto* begin = reinterpret_cast<const char*>(reader.here());
  const std::size_t from = reader.position();
  skip_elements(reader, value, where);
  value.bytes = {begin, reader.position() - from};
  if (value.type == ValueType::kBool) {
    for (const char one : value.bytes) {
      if (one != 0 && one != 1) throw DataError(cat(where, ": a bool is ", int{one}, ": expected 0 or 1"));
    }
  }
  return value;
}

std::string describe(const Value& value) {
  const char* name = facts_of(value.type).name;
  return value.is_array ? cat("an array of ", value.count, ' ', name, "s") : cat("a ", name);
}

std::vector<std::string_view> strings_of(const Value& value) {
  std::vector<std::string_view> strings;
  strings.reserve(value.count);  // as many as the file was seen to hold
  std::string_view rest = value.bytes;
  while (!rest.empty()) {
    const auto length = static_cast<std::size_t>(load<std::uint64_t>(bytes_of(rest)));
    strings.push_back(rest.substr(sizeof(std::uint64_t), length));
    rest.remove_prefix(sizeof(std::uint64_t) + length);
  }
  return strings;
}

Json to_json(const Value& value) {
  if (value.count > kShortArray) return describe(value);
  Json list = Json::array();
  if (value.type == ValueType::kString) {
    for (const std::string_view text : strings_of(value)) list.push_back(std::string(text));
  } else {
    const std::size_t size = facts_of(value.type).bytes;
    for (std::size_t at = 0; at < value.bytes.size(); at += size)
      list.push_back(scalar_json(value.type, bytes_of(value.bytes) + at));
  }
  return value.is_array ? list : list.at(0);
}

}  // namespace mla::gguf
