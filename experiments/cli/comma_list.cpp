#include "experiments/cli/comma_list.h"

#include <algorithm>
#include <charconv>

#include "core/base/error.h"

namespace mla {
namespace {

[[noreturn]] void refuse(const std::string& text, const std::string& option, const std::string& expected) {
  throw ConfigError(
      cat(option, " ", text.empty() ? "''" : text, ": expected ", expected, ", or several joined by commas"));
}

}  // namespace

std::vector<std::string> comma_list(const std::string& text, const std::string& option, const std::string& expected) {
  std::vector<std::string> parts;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    if (end == begin) refuse(text, option, expected);
    parts.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return parts;
}

std::vector<std::int64_t> whole_numbers(const std::string& text, const std::string& option, std::int64_t least,
                                        std::int64_t most) {
  const bool bounded = most != std::numeric_limits<std::int64_t>::max();
  const std::string expected = cat("a whole number from ", least, bounded ? cat(" to ", most) : " on");
  std::vector<std::int64_t> numbers;
  for (const std::string& part : comma_list(text, option, expected)) {
    const char* const end = part.data() + part.size();
    std::int64_t number = 0;
    const auto [read, error] = std::from_chars(part.data(), end, number);
    if (error != std::errc() || read != end || number < least || number > most) refuse(text, option, expected);
    numbers.push_back(number);
  }
  return numbers;
}

}  // namespace mla
