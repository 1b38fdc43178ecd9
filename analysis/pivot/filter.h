// Which runs a table counts: KEY=VALUE and KEY!=VALUE.
#pragma once

#include <string>
#include <vector>

#include "analysis/pivot/items.h"

namespace mla {

struct Filter {
  std::string key;
  std::vector<std::string> patterns;
  bool negated = false;
};

/// Reads KEY=VALUE and KEY!=VALUE, values separated by commas. Throws ConfigError for another form, and for a key that
/// no record has.
std::vector<Filter> parse_filters(const RecordSet& set, const std::vector<std::string>& texts);

/// Whether all of them let the item through. A filter of tasks holds nothing back where tasks are no key.
bool passes(const Item& item, const std::vector<Filter>& filters);

/// Whether `value` fits `pattern`, in which * stands for anything.
bool fits(const std::string& value, const std::string& pattern);

}  // namespace mla
