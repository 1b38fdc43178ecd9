#include "core/base/byte_size.h"

#include <sys/resource.h>

#include <array>
#include <cctype>
#include <cstdio>
#include <regex>

#include "core/base/error.h"

namespace mla {

std::int64_t parse_bytes(const std::string& text, const std::string& option) {
  static const std::regex form("([0-9]{1,9})(B|KB|MB|GB)?|[0-9]{10,18}", std::regex::icase);
  std::smatch parts;
  std::int64_t bytes = 0;
  if (std::regex_match(text, parts, form)) {
    const int unit = parts[2].matched ? std::tolower(static_cast<unsigned char>(*parts[2].first)) : 'b';
    bytes = std::stoll(text) * (unit == 'g' ? 1'000'000'000 : unit == 'm' ? 1'000'000 : unit == 'k' ? 1'000 : 1);
  }
  if (bytes == 0)
    throw ConfigError(cat(option, " ", text, ": expected bytes, or a number and KB, MB or GB, such as 200MB"));
  return bytes;
}

std::string describe_bytes(std::int64_t bytes) {
  constexpr std::array kUnits = {"KB", "MB", "GB", "TB"};
  if (bytes < 1000) return cat(bytes, " bytes");
  double amount = static_cast<double>(bytes) / 1000;
  std::size_t unit = 0;
  for (; amount >= 999.5 && unit + 1 < kUnits.size(); ++unit) amount /= 1000;
  char text[32];
  std::snprintf(text, sizeof text, amount < 9.995 ? "%.2f" : amount < 99.95 ? "%.1f" : "%.0f", amount);
  return cat(text, " ", kUnits[unit]);
}

std::int64_t peak_memory_bytes() {
  struct rusage usage {};
  ::getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss * 1024;
}

}  // namespace mla
