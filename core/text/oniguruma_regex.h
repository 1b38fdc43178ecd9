// What every use of Oniguruma shares: the library's start, compiling, limits on going back and forth.
#pragma once

#include <oniguruma.h>

#include <memory>
#include <string>
#include <string_view>

namespace mla {

struct FreeOniguruma {
  void operator()(regex_t* regex) const { onig_free(regex); }
  void operator()(OnigRegion* region) const { onig_region_free(region, 1); }
  void operator()(OnigMatchParam* limits) const { onig_free_match_param(limits); }
};

using OnigurumaRegex = std::unique_ptr<regex_t, FreeOniguruma>;

/// Compiles `regex` for UTF-8. Throws DataError, the library's words after `where`, for what is none in that syntax.
OnigurumaRegex compile_oniguruma(std::string_view regex, const OnigSyntaxType& syntax, OnigOptionType options,
                                 const std::string& where);

/// Searches in one text.
class OnigurumaSearch {
 public:
  /// `where` stands in errors. The text must outlive this.
  OnigurumaSearch(std::string_view text, std::string where);

  /// Whether there is a match that begins at byte `at` or later, at an end of a character. Throws DataError when the
  /// expression goes back and forth without end.
  bool find(const OnigurumaRegex& regex, std::size_t at);
  /// Whether there is a match that begins at byte `at`.
  bool find_here(const OnigurumaRegex& regex, std::size_t at);

  /// Of the last match; group 0 is all of it.
  std::size_t groups() const { return static_cast<std::size_t>(region_->num_regs); }
  bool matched(std::size_t group) const { return region_->beg[group] >= 0; }
  std::size_t begin(std::size_t group = 0) const { return static_cast<std::size_t>(region_->beg[group]); }
  std::size_t end(std::size_t group = 0) const { return static_cast<std::size_t>(region_->end[group]); }

 private:
  bool found(int result) const;

  std::string_view text_;
  std::string where_;
  std::unique_ptr<OnigRegion, FreeOniguruma> region_;
  std::unique_ptr<OnigMatchParam, FreeOniguruma> limits_;
};

}  // namespace mla
