#include <oniguruma.h>

#include <algorithm>
#include <memory>
#include <mutex>
#include <string>

#include "core/base/error.h"
#include "core/text/pattern.h"
#include "core/text/regex_dialect.h"
#include "core/text/utf8.h"

namespace mla {
namespace {

// As the reference, which leaves the library's default in place: a pattern that goes back more often at one place of a
// text never ends.
constexpr unsigned long kMostRetriesInMatch = 10'000'000;
// A search may try every character of the text.
constexpr unsigned long kMostRetriesPerByte = 64;
// Some 50 bytes each: what a long run of one character class leaves to go back to.
constexpr unsigned kMostStackEntries = 10'000'000;

const OnigUChar* bytes_of(std::string_view text) { return reinterpret_cast<const OnigUChar*>(text.data()); }

struct FreeOnig {
  void operator()(regex_t* regex) const { onig_free(regex); }
  void operator()(OnigRegion* region) const { onig_region_free(region, 1); }
  void operator()(OnigMatchParam* limits) const { onig_free_match_param(limits); }
};

std::string message_of(int error, OnigErrorInfo* info) {
  OnigUChar message[ONIG_MAX_ERROR_MESSAGE_LEN] = "";
  const int size = info ? onig_error_code_to_str(message, error, info) : onig_error_code_to_str(message, error);
  return replace_invalid_utf8({reinterpret_cast<const char*>(message), static_cast<std::size_t>(std::max(size, 0))});
}

/// The library's tables are made once, and compiling is not safe between threads.
std::unique_ptr<regex_t, FreeOnig> compile(std::string_view regex, const std::string& described) {
  static std::mutex mutex;
  const std::lock_guard lock(mutex);
  static const bool ready = [] {
    OnigEncoding encodings[] = {ONIG_ENCODING_UTF8};
    expects(onig_initialize(encodings, 1) == ONIG_NORMAL, "Oniguruma could not be initialized");
    define_unicode_properties();
    return true;
  }();
  expects(ready, "Oniguruma is not ready");
  regex_t* compiled = nullptr;
  OnigErrorInfo info;
  const int error = onig_new(&compiled, bytes_of(regex), bytes_of(regex) + regex.size(), ONIG_OPTION_NONE,
                             ONIG_ENCODING_UTF8, ONIG_SYNTAX_ONIGURUMA, &info);
  if (error != ONIG_NORMAL) throw DataError(cat(described, ": ", message_of(error, &info)));
  return std::unique_ptr<regex_t, FreeOnig>(compiled);
}

class RegexPattern : public Pattern {
 public:
  RegexPattern(const std::string& regex, const std::string& where)
      : described_(cat(where, ": regular expression ", for_message(regex))),
        regex_(compile(in_reference_dialect(regex), described_)) {}

  void find(std::string_view text, std::vector<Stretch>& stretches) const override {
    const std::unique_ptr<OnigRegion, FreeOnig> region(onig_region_new());
    const std::unique_ptr<OnigMatchParam, FreeOnig> limits(onig_new_match_param());
    onig_initialize_match_param(limits.get());
    onig_set_match_stack_limit_size_of_match_param(limits.get(), kMostStackEntries);
    onig_set_retry_limit_in_match_of_match_param(limits.get(), kMostRetriesInMatch);
    onig_set_retry_limit_in_search_of_match_param(limits.get(),
                                                  kMostRetriesInMatch + kMostRetriesPerByte * text.size());
    std::size_t done = 0;                          // Where the last match ended, or the text begins.
    bool matched = false;                          // Whether there was one.
    std::size_t at = text.empty() ? SIZE_MAX : 0;  // As in the reference, nothing matches in an empty text.
    while (at <= text.size()) {
      const OnigUChar* first = bytes_of(text);
      const int found = onig_search_with_param(regex_.get(), first, first + text.size(), first + at,
                                               first + text.size(), region.get(), ONIG_OPTION_NONE, limits.get());
      if (found == ONIG_MISMATCH) break;
      if (found < 0) throw DataError(cat(described_, " fails on a text: ", message_of(found, nullptr)));
      const auto begin = static_cast<std::size_t>(region->beg[0]), end = static_cast<std::size_t>(region->end[0]);
      if (begin == end && matched && end == done) {  // Nothing, right after a match: on to the next character.
        at += at < text.size() ? utf8_size(text[at]) : 1;
        continue;
      }
      if (begin > done) stretches.push_back({text.substr(done, begin - done), false});
      stretches.push_back({text.substr(begin, end - begin), true});
      done = at = end;
      matched = true;
    }
    if (done < text.size()) stretches.push_back({text.substr(done), false});
  }

 private:
  std::string described_;
  std::unique_ptr<regex_t, FreeOnig> regex_;
};

}  // namespace

std::unique_ptr<Pattern> make_regex_pattern(const std::string& regex, const std::string& where) {
  return std::make_unique<RegexPattern>(regex, where);
}

}  // namespace mla
