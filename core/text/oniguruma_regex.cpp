#include "core/text/oniguruma_regex.h"

#include <algorithm>
#include <mutex>
#include <utility>

#include "core/base/error.h"
#include "core/text/regex_dialect.h"
#include "core/text/utf8.h"

namespace mla {
namespace {

// As the tokenizers library, which leaves Oniguruma's default in place: a pattern that goes back more often at one
// place of a text never ends.
constexpr unsigned long kMostRetriesInMatch = 10'000'000;
// A search may try every character of the text.
constexpr unsigned long kMostRetriesPerByte = 64;
// Some 50 bytes each: what a long run of one character class leaves to go back to.
constexpr unsigned kMostStackEntries = 10'000'000;

const OnigUChar* bytes_of(std::string_view text) { return reinterpret_cast<const OnigUChar*>(text.data()); }

std::string message_of(int error, OnigErrorInfo* info) {
  OnigUChar message[ONIG_MAX_ERROR_MESSAGE_LEN] = "";
  const int size = info ? onig_error_code_to_str(message, error, info) : onig_error_code_to_str(message, error);
  return replace_invalid_utf8({reinterpret_cast<const char*>(message), static_cast<std::size_t>(std::max(size, 0))});
}

}  // namespace

OnigurumaRegex compile_oniguruma(std::string_view regex, const OnigSyntaxType& syntax, OnigOptionType options,
                                 const std::string& where) {
  // The library's tables are made once, and compiling is not safe between threads.
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
  // The library's own syntaxes are not const, and it does not change them.
  const int error = onig_new(&compiled, bytes_of(regex), bytes_of(regex) + regex.size(), options, ONIG_ENCODING_UTF8,
                             const_cast<OnigSyntaxType*>(&syntax), &info);
  if (error != ONIG_NORMAL) throw DataError(cat(where, ": ", message_of(error, &info)));
  return OnigurumaRegex(compiled);
}

OnigurumaSearch::OnigurumaSearch(std::string_view text, std::string where)
    : text_(text.data() ? text : ""),
      where_(std::move(where)),
      region_(onig_region_new()),
      limits_(onig_new_match_param()) {
  onig_initialize_match_param(limits_.get());
  onig_set_match_stack_limit_size_of_match_param(limits_.get(), kMostStackEntries);
  onig_set_retry_limit_in_match_of_match_param(limits_.get(), kMostRetriesInMatch);
  onig_set_retry_limit_in_search_of_match_param(limits_.get(), kMostRetriesInMatch + kMostRetriesPerByte * text.size());
}

bool OnigurumaSearch::found(int result) const {
  if (result == ONIG_MISMATCH) return false;
  if (result < 0) throw DataError(cat(where_, " fails on a text: ", message_of(result, nullptr)));
  return true;
}

bool OnigurumaSearch::find(const OnigurumaRegex& regex, std::size_t at) {
  const OnigUChar* first = bytes_of(text_);
  const OnigUChar* last = first + text_.size();
  return found(onig_search_with_param(regex.get(), first, last, first + at, last, region_.get(), ONIG_OPTION_NONE,
                                      limits_.get()));
}

bool OnigurumaSearch::find_here(const OnigurumaRegex& regex, std::size_t at) {
  const OnigUChar* first = bytes_of(text_);
  return found(onig_match_with_param(regex.get(), first, first + text_.size(), first + at, region_.get(),
                                     ONIG_OPTION_NONE, limits_.get()));
}

}  // namespace mla
