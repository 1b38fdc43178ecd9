#include "core/base/yaml_scalar.h"

#include <charconv>
#include <cstdint>
#include <regex>
#include <string_view>

#include "core/base/error.h"

namespace mla {
namespace {

constexpr std::string_view kCore = "tag:yaml.org,2002:";

template <class T>
bool parse(std::string_view digits, int base, T& value) {
  const auto end = digits.data() + digits.size();
  const auto result = std::from_chars(digits.data(), end, value, base);
  return result.ec == std::errc() && result.ptr == end;
}

/// Signed where it is negative, as the reader of JSON has it.
Json whole_number(std::string_view text, int base) {
  const bool negative = text.front() == '-';
  if (text.front() == '+') text.remove_prefix(1);
  if (base != 10) text.remove_prefix(2);  // 0x, 0o
  std::int64_t with_sign = 0;
  std::uint64_t without = 0;
  if (negative ? parse(text, base, with_sign) : parse(text, base, without))
    return negative ? Json(with_sign) : Json(without);
  throw DataError(cat("the whole number ", brief_text(text), " needs more than 64 bits"));
}

Json real_number(std::string_view text) {
  if (text.front() == '+') text.remove_prefix(1);
  double value = 0;
  const auto result = std::from_chars(text.data(), text.data() + text.size(), value);
  if (result.ec != std::errc()) throw DataError(cat("the number ", brief_text(text), " is beyond what a double holds"));
  return value;
}

Json plain(const std::string& text) {
  static const std::regex decimal("[-+]?[0-9]+"), octal("0o[0-7]+"), hexadecimal("0x[0-9a-fA-F]+"),
      real("[-+]?(\\.[0-9]+|[0-9]+(\\.[0-9]*)?)([eE][-+]?[0-9]+)?"),
      no_number("[-+]?\\.(inf|Inf|INF)|\\.(nan|NaN|NAN)");
  if (text.empty() || text == "~" || text == "null" || text == "Null" || text == "NULL") return {};
  if (text == "true" || text == "True" || text == "TRUE") return true;
  if (text == "false" || text == "False" || text == "FALSE") return false;
  constexpr std::size_t kLongestNumber = 400;  // the regular expressions recurse over their text
  if (text.size() > kLongestNumber) return text;
  if (std::regex_match(text, decimal)) return whole_number(text, 10);
  if (std::regex_match(text, octal)) return whole_number(text, 8);
  if (std::regex_match(text, hexadecimal)) return whole_number(text, 16);
  if (std::regex_match(text, real)) return real_number(text);
  if (std::regex_match(text, no_number)) throw DataError(cat(text, " is no number that a config may hold"));
  return text;
}

bool fits(const std::string& type, const Json& value) {
  return (type == "null" && value.is_null()) || (type == "bool" && value.is_boolean()) ||
         (type == "int" && value.is_number_integer()) || (type == "float" && value.is_number());
}

}  // namespace

Json yaml_scalar(const std::string& tag, const std::string& text) {
  if (tag.empty() || tag == "?") return plain(text);
  if (tag == "!") return text;
  if (tag.starts_with(kCore)) {
    const std::string type = tag.substr(kCore.size());
    if (type == "str") return text;
    const Json value = plain(text);
    if (fits(type, value)) return value;
  }
  throw DataError(cat("the tag '", brief_text(tag), "' does not fit '", brief_text(text), "'; config files need none"));
}

}  // namespace mla
