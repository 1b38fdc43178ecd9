#include "core/text/regex_dialect.h"

#include <oniguruma.h>

#include <algorithm>
#include <iterator>
#include <utility>
#include <vector>

#include "core/base/error.h"
#include "core/text/unicode_additions.h"

namespace mla {
namespace {

constexpr std::string_view kPunctuation = "[\\p{P}\\p{S}]", kNotPunctuation = "[^\\p{P}\\p{S}]";
constexpr std::string_view kLineEnd = R"((?>\x0D\x0A|[\x0A-\x0D\x{85}\x{2028}\x{2029}]))";

// The names of what define_unicode_properties() defines, and the names it has there: these are found before the
// library's own, and unlike those only as they are spelt.
constexpr std::pair<std::string_view, std::string_view> kNames[] = {
    {"l", "l"},
    {"letter", "l"},
    {"lu", "lu"},
    {"uppercaseletter", "lu"},
    {"ll", "ll"},
    {"lowercaseletter", "ll"},
    {"lm", "lm"},
    {"modifierletter", "lm"},
    {"lo", "lo"},
    {"otherletter", "lo"},
    {"m", "m"},
    {"mark", "m"},
    {"combiningmark", "m"},
    {"mn", "mn"},
    {"nonspacingmark", "mn"},
    {"mc", "mc"},
    {"spacingmark", "mc"},
    {"n", "n"},
    {"number", "n"},
    {"nd", "nd"},
    {"decimalnumber", "nd"},
    {"no", "no"},
    {"othernumber", "no"},
    {"p", "p"},
    {"punctuation", "p"},
    {"punct", "p"},
    {"pd", "pd"},
    {"dashpunctuation", "pd"},
    {"po", "po"},
    {"otherpunctuation", "po"},
    {"s", "s"},
    {"symbol", "s"},
    {"sm", "sm"},
    {"mathsymbol", "sm"},
    {"so", "so"},
    {"othersymbol", "so"},
    {"han", "han"},
    {"hani", "han"},
    {"idc", "idcontinue"},
    {"idcontinue", "idcontinue"},
    {"xidc", "xidcontinue"},
    {"xidcontinue", "xidcontinue"},
};

/// Rewrites a pattern from left to right.
class Rewriter {
 public:
  explicit Rewriter(std::string_view regex) : rest_(regex) {}

  std::string result() && {
    while (!rest_.empty()) {
      depth_ == 0 ? outside() : inside();
    }
    return std::move(out_);
  }

 private:
  void copy(std::size_t size) {
    out_ += rest_.substr(0, size);
    rest_.remove_prefix(std::min(size, rest_.size()));
  }

  void replace(std::size_t size, std::string_view by) {
    out_ += by;
    rest_.remove_prefix(size);
  }

  /// \p{^Name}: the name that the properties of Unicode 16 are defined by.
  bool property() {
    const std::size_t end = rest_.find('}');
    if (!(rest_.starts_with("\\p{") || rest_.starts_with("\\P{")) || end == std::string_view::npos) return false;
    const std::size_t begin = rest_.size() > 3 && rest_[3] == '^' ? 4 : 3;
    std::string name;
    for (const char c : rest_.substr(begin, end - begin)) {
      if (c != ' ' && c != '_' && c != '-') name += static_cast<char>(c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c);
    }
    const auto known =
        std::find_if(std::begin(kNames), std::end(kNames), [&](const auto& entry) { return entry.first == name; });
    if (known == std::end(kNames)) return false;
    copy(begin);
    replace(end - begin, known->second);
    copy(1);
    return true;
  }

  void escape() {
    if (!property()) copy(2);
  }

  void open_class() {
    ++depth_;
    copy(1);
    if (rest_.starts_with('^')) copy(1);
    if (rest_.starts_with(']')) copy(1);  // The first one is a character.
  }

  void outside() {
    // In a look-behind both releases get it wrong alike.
    if (rest_.starts_with("\\R") && !looks_behind_.back()) return replace(2, kLineEnd);
    if (rest_[0] == '\\') return escape();
    if (rest_.starts_with("(?#")) return copy(std::min(rest_.find(')'), rest_.size() - 1) + 1);
    if (rest_[0] == '[') return open_class();
    if (rest_[0] == '(') {
      looks_behind_.push_back(looks_behind_.back() || rest_.starts_with("(?<=") || rest_.starts_with("(?<!"));
    }
    if (rest_[0] == ')' && looks_behind_.size() > 1) looks_behind_.pop_back();
    copy(1);
  }

  void inside() {
    if (rest_.starts_with("[:punct:]")) return replace(9, kPunctuation);
    if (rest_.starts_with("[:^punct:]")) return replace(10, kNotPunctuation);
    if (rest_[0] == '\\') return escape();
    if (rest_.starts_with("[:")) {
      const std::size_t end = rest_.substr(0, 16).find(":]", 2);  // The longest name is [:^xdigit:].
      if (end != std::string_view::npos) return copy(end + 2);
    }
    if (rest_[0] == '[') return open_class();
    if (rest_[0] == ']') --depth_;
    copy(1);
  }

  std::string_view rest_;
  std::string out_;
  int depth_ = 0;                          // Of classes within classes.
  std::vector<bool> looks_behind_{false};  // Whether each open group is (in) a look-behind.
};

}  // namespace

std::string in_reference_dialect(std::string_view regex) { return Rewriter(regex).result(); }

void define_unicode_properties() {
  static std::vector<UnicodeProperty> properties = unicode_16_properties();  // The library keeps pointers to them.
  for (UnicodeProperty& property : properties) {
    const int error = onig_unicode_define_user_property(property.name, property.ranges.data());
    expects(error == ONIG_NORMAL, "Oniguruma refuses a property");
  }
}

}  // namespace mla
