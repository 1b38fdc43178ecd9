#include "experiments/automatic/budget.h"

#include <charconv>
#include <cmath>
#include <system_error>

#include "core/base/error.h"

namespace mla {
namespace {

/// The number that all of `text` states, or nothing.
template <class Number>
bool reads_as(const std::string& text, Number& number) {
  const char* end = text.data() + text.size();
  const auto [stopped, error] = std::from_chars(text.data(), end, number);
  return error == std::errc() && stopped == end && !text.empty();
}

}  // namespace

CacheBudget CacheBudget::parse(const std::string& text, const std::string& option) {
  CacheBudget budget{text, 0, 0};
  if (text.ends_with('%')) {
    double percent = 0;
    if (reads_as(text.substr(0, text.size() - 1), percent) && std::isfinite(percent)) {
      if (percent > 100) throw ConfigError(cat(option, " ", text, ": more than the source caches; at most 100%"));
      if (percent > 0) {
        budget.share = percent / 100;
        return budget;
      }
    }
  } else if (reads_as(text, budget.bytes) && budget.bytes > 0) {
    return budget;
  }
  throw ConfigError(cat(option, " ", text,
                        ": expected a share of the source's cache, as 20%, or bytes per token of all layers together, ",
                        "as 4608"));
}

std::int64_t CacheBudget::per_token(std::int64_t source, const std::string& option) const {
  // A share that comes out whole but for rounding is that whole number.
  if (share > 0) return static_cast<std::int64_t>(std::floor(share * static_cast<double>(source) + 1e-6));
  if (bytes > source)
    throw ConfigError(cat(option, " ", stated, ": more than the ", source,
                          " bytes per token that the source caches in 16 bits; at most these, or 100%"));
  return bytes;
}

}  // namespace mla
