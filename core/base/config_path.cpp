#include "core/base/config_path.h"

#include <algorithm>
#include <charconv>

#include "core/base/error.h"

namespace mla {
namespace {

/// "[12]" as 12.
std::size_t index_of(const std::string& part) {
  std::size_t index = 0;
  std::from_chars(part.data() + 1, part.data() + part.size() - 1, index);
  return index;
}

bool is_index(const std::string& part) { return part.front() == '['; }

/// Appends the parts of `text`, which lies between two dots: a key and any number of indices.
void split_part(std::string_view text, std::string_view path, std::vector<std::string>& parts) {
  const std::size_t bracket = std::min(text.find('['), text.size());
  if (bracket == 0) throw ConfigError(cat("'", path, "': a part of the path is empty"));
  parts.emplace_back(text.substr(0, bracket));
  text.remove_prefix(bracket);
  while (!text.empty()) {
    const std::size_t end = text.find(']');
    const bool good = text.front() == '[' && end != std::string_view::npos && end > 1 && end < 11 &&
                      text.substr(1, end - 1).find_first_not_of("0123456789") == std::string_view::npos;
    if (!good) throw ConfigError(cat("'", path, "': expected an index such as [0], found '", text, "'"));
    parts.emplace_back(text.substr(0, end + 1));
    text.remove_prefix(end + 1);
  }
}

/// The member `part` of `value`, made if it is missing; `where` is the path of `value`.
Json& member(Json& value, const std::string& part, const std::string& where) {
  if (!is_index(part)) {
    if (value.is_null()) value = Json::object();
    if (!value.is_object()) throw ConfigError(cat(where, ": ", kind_of(value), ", has no member '", part, "'"));
    return value[part];
  }
  if (value.is_null()) value = Json::array();
  if (!value.is_array()) throw ConfigError(cat(where, ": ", kind_of(value), ", has no entry ", part));
  const std::size_t index = index_of(part);
  if (index > value.size()) throw ConfigError(cat(where, part, ": the list has ", value.size(), " entries"));
  if (index == value.size()) value.push_back(nullptr);
  return value[index];
}

/// The end of the value that starts at `text`: the first comma outside brackets, braces and quotes.
std::size_t end_of_value(std::string_view text) {
  int depth = 0;
  bool quoted = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quoted) {
      if (c == '\\') ++i;
      if (c == '"') quoted = false;
    } else if (c == '"') {
      quoted = true;
    } else if (c == '[' || c == '{') {
      ++depth;
    } else if (c == ']' || c == '}') {
      --depth;
    } else if (c == ',' && depth == 0) {
      return i;
    }
  }
  return text.size();
}

}  // namespace

std::vector<std::string> split_path(std::string_view path) {
  std::vector<std::string> parts;
  for (std::string_view rest = path;;) {
    const std::size_t dot = rest.find('.');
    split_part(rest.substr(0, dot), path, parts);
    if (dot == std::string_view::npos) return parts;
    rest.remove_prefix(dot + 1);
  }
}

void set_at(Json& config, std::string_view path, const Json& value) {
  Json* at = &config;
  std::string where;
  for (const std::string& part : split_path(path)) {
    at = &member(*at, part, where);
    where += (where.empty() || is_index(part) ? "" : ".") + part;
  }
  *at = value;
}

std::pair<std::string, std::string> split_assignment(std::string_view assignment, std::string_view option) {
  const std::size_t equals = assignment.find('=');
  if (equals == std::string_view::npos || equals == 0) {
    throw ConfigError(cat(option, " ", assignment, ": expected path=value"));
  }
  return {std::string(assignment.substr(0, equals)), std::string(assignment.substr(equals + 1))};
}

Json parse_value(std::string_view text) { return try_parse_json(text).value_or(Json(text)); }

std::vector<Json> parse_values(std::string_view text) {
  std::vector<Json> values;
  for (;;) {
    const std::size_t end = end_of_value(text);
    values.push_back(parse_value(text.substr(0, end)));
    if (end == text.size()) return values;
    text.remove_prefix(end + 1);
  }
}

}  // namespace mla
