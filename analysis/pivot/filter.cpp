#include "analysis/pivot/filter.h"

#include <algorithm>

#include "core/base/error.h"

namespace mla {

std::vector<Filter> parse_filters(const RecordSet& set, const std::vector<std::string>& texts) {
  std::vector<Filter> filters;
  for (const std::string& text : texts) {
    const std::size_t equals = text.find('=');
    if (equals == std::string::npos || equals == 0)
      throw ConfigError(cat("--where ", text, ": expected KEY=VALUE or KEY!=VALUE"));
    Filter filter;
    filter.negated = text[equals - 1] == '!';
    filter.key = text.substr(0, equals - (filter.negated ? 1 : 0));
    for (std::size_t at = equals + 1;;) {
      const std::size_t comma = text.find(',', at);
      filter.patterns.push_back(text.substr(at, comma - at));
      if (comma == std::string::npos) break;
      at = comma + 1;
    }
    if (filter.key != "task") check_dimension(set, filter.key, "--where");
    filters.push_back(std::move(filter));
  }
  return filters;
}

bool passes(const Item& item, const std::vector<Filter>& filters) {
  return std::all_of(filters.begin(), filters.end(), [&](const Filter& filter) {
    if (filter.key == "task" && item.task.empty()) return true;
    const std::string value = plain_text(key_of(item, filter.key));
    const bool found = std::any_of(filter.patterns.begin(), filter.patterns.end(),
                                   [&](const std::string& pattern) { return fits(value, pattern); });
    return found != filter.negated;
  });
}

bool fits(const std::string& value, const std::string& pattern) {
  const std::size_t star = pattern.find('*');
  if (star == std::string::npos) return value == pattern;
  if (value.compare(0, star, pattern, 0, star) != 0) return false;
  const std::string rest = pattern.substr(star + 1);
  for (std::size_t at = star; at <= value.size(); ++at) {
    if (fits(value.substr(at), rest)) return true;
  }
  return false;
}

}  // namespace mla
