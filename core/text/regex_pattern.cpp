#include <memory>
#include <string>

#include "core/base/error.h"
#include "core/text/oniguruma_regex.h"
#include "core/text/pattern.h"
#include "core/text/regex_dialect.h"
#include "core/text/utf8.h"

namespace mla {
namespace {

class RegexPattern : public Pattern {
 public:
  RegexPattern(const std::string& regex, const std::string& where)
      : described_(cat(where, ": regular expression ", for_message(regex))),
        regex_(compile_oniguruma(in_reference_dialect(regex), *ONIG_SYNTAX_ONIGURUMA, ONIG_OPTION_NONE, described_)) {}

  void find(std::string_view text, std::vector<Stretch>& stretches) const override {
    OnigurumaSearch search(text, described_);
    std::size_t done = 0;                          // Where the last match ended, or the text begins.
    bool matched = false;                          // Whether there was one.
    std::size_t at = text.empty() ? SIZE_MAX : 0;  // As in the reference, nothing matches in an empty text.
    while (at <= text.size() && search.find(regex_, at)) {
      const std::size_t begin = search.begin(), end = search.end();
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
  OnigurumaRegex regex_;
};

}  // namespace

std::unique_ptr<Pattern> make_regex_pattern(const std::string& regex, const std::string& where) {
  return std::make_unique<RegexPattern>(regex, where);
}

}  // namespace mla
