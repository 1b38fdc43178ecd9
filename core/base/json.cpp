#include "core/base/json.h"

#include <algorithm>

#include "core/base/error.h"
#include "core/base/file.h"

namespace mla {
namespace {

template <class Kind>
Kind parse(const std::string& text, const std::string& name) {
  try {
    return Kind::parse(text, nullptr, true, true);
  } catch (const nlohmann::json::parse_error& error) {
    const std::size_t at = std::min(error.byte > 0 ? error.byte - 1 : 0, text.size());
    const std::string_view before(text.data(), at);
    const auto line = 1 + std::count(before.begin(), before.end(), '\n');
    const std::size_t newline = before.rfind('\n');
    const std::size_t column = 1 + (newline == std::string_view::npos ? at : at - newline - 1);
    std::string what = error.what();
    // The library writes "[json.exception] parse error at line ...: what"; only the last part says something new.
    if (const std::size_t colon = what.find(": "); colon != std::string::npos) what.erase(0, colon + 2);
    std::replace(what.begin(), what.end(), '\n', ' ');
    throw DataError(cat(name, ":", line, ":", column, ": malformed JSON: ", what));
  } catch (const nlohmann::json::exception& error) {  // for example a number beyond the range of double
    throw DataError(cat(name, ": malformed JSON: ", error.what()));
  }
}

}  // namespace

Json parse_json(const std::string& text, const std::string& name) { return parse<Json>(text, name); }

Json read_json(const std::filesystem::path& path) { return parse_json(read_file(path), path.string()); }

LargeJson read_large_json(const std::filesystem::path& path) {
  return parse<LargeJson>(read_file(path), path.string());
}

void write_json(const std::filesystem::path& path, const Json& value, int indent) {
  write_file_atomically(path, value.dump(indent, ' ', false, Json::error_handler_t::replace) + "\n");
}

std::string kind_of(const Json& value) {
  if (value.is_null()) return "null";
  if (value.is_boolean()) return "a boolean";
  if (value.is_number_integer()) return "an integer";
  if (value.is_number()) return "a number";
  if (value.is_string()) return "a string";
  if (value.is_array()) return "an array";
  return "an object";
}

std::string brief(const Json& value) {
  constexpr std::size_t kLongest = 80;
  std::string text = value.dump(-1, ' ', true, Json::error_handler_t::replace);
  if (text.size() > kLongest) text.replace(kLongest - 3, std::string::npos, "...");
  return text;
}

}  // namespace mla
