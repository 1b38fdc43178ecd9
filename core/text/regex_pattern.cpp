#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "core/base/error.h"
#include "core/text/pattern.h"
#include "core/text/utf8.h"

namespace mla {
namespace {

struct Free {
  void operator()(pcre2_code* code) const { pcre2_code_free(code); }
  void operator()(pcre2_match_data* data) const { pcre2_match_data_free(data); }
};

/// PCRE2's \s takes U+180E for a space and its \w leaves out marks; the reference (onig) goes by Unicode's properties,
/// and takes the superscripts and fractions of Latin-1 for word characters.
std::string with_unicode_classes(const std::string& regex) {
  constexpr const char* kWord = R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\x{B2}\x{B3}\x{B9}\x{BC}-\x{BE})";
  std::string out;
  bool in_class = false;
  for (std::size_t i = 0; i < regex.size(); ++i) {
    if (regex[i] == '[') in_class = true;
    if (regex[i] == ']') in_class = false;
    if (regex[i] != '\\' || i + 1 == regex.size()) {
      out += regex[i];
      continue;
    }
    const char kind = regex[++i];
    if (kind == 's') {
      out += "\\p{White_Space}";
    } else if (kind == 'S') {
      out += "\\P{White_Space}";
    } else if (kind == 'w') {
      out += in_class ? std::string(kWord) : cat("[", kWord, "]");
    } else if (kind == 'W' && !in_class) {
      out += cat("[^", kWord, "]");
    } else {
      out += {'\\', kind};
    }
  }
  return out;
}

class RegexPattern : public Pattern {
 public:
  RegexPattern(const std::string& regex, const std::string& where) {
    const std::string pattern = with_unicode_classes(regex);
    int error = 0;
    PCRE2_SIZE offset = 0;
    code_.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                              PCRE2_UTF | PCRE2_UCP | PCRE2_NO_UTF_CHECK, &error, &offset, nullptr));
    if (!code_) {
      PCRE2_UCHAR message[160];
      pcre2_get_error_message(error, message, sizeof message);
      throw DataError(cat(where, ": regular expression ", regex, ": ", reinterpret_cast<const char*>(message)));
    }
    pcre2_jit_compile(code_.get(), PCRE2_JIT_COMPLETE);  // Without JIT on this machine it is interpreted.
  }

  void find(std::string_view text, std::vector<Stretch>& stretches) const override {
    const std::unique_ptr<pcre2_match_data, Free> match(pcre2_match_data_create_from_pattern(code_.get(), nullptr));
    std::size_t done = 0;
    for (std::size_t at = 0; at <= text.size();) {
      const int count = pcre2_match(code_.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), at,
                                    PCRE2_NO_UTF_CHECK, match.get(), nullptr);
      if (count == PCRE2_ERROR_NOMATCH) break;
      if (count < 0)
        throw DataError(cat("a regular expression of the tokenizer failed on a text: PCRE2 error ", count));
      const PCRE2_SIZE* bounds = pcre2_get_ovector_pointer(match.get());
      const std::size_t begin = bounds[0], end = bounds[1];
      if (begin > done) stretches.push_back({text.substr(done, begin - done), false});
      if (end > begin) stretches.push_back({text.substr(begin, end - begin), true});
      done = end;
      at = end > begin ? end : end == text.size() ? end + 1 : end + utf8_size(text[end]);
    }
    if (done < text.size()) stretches.push_back({text.substr(done), false});
  }

 private:
  std::unique_ptr<pcre2_code, Free> code_;
};

}  // namespace

std::unique_ptr<Pattern> make_regex_pattern(const std::string& regex, const std::string& where) {
  return std::make_unique<RegexPattern>(regex, where);
}

}  // namespace mla
