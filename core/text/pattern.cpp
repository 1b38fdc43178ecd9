#include "core/text/pattern.h"

#include "core/text/component_json.h"
#include "core/text/utf8.h"

namespace mla {
namespace {

class LiteralPattern : public Pattern {
 public:
  explicit LiteralPattern(std::string literal) : literal_(std::move(literal)) {}

  void find(std::string_view text, std::vector<Stretch>& stretches) const override {
    std::size_t done = 0;
    for (;;) {
      const std::size_t at = text.find(literal_, done);
      if (at == std::string_view::npos) break;
      if (at > done) stretches.push_back({text.substr(done, at - done), false});
      stretches.push_back({text.substr(at, literal_.size()), true});
      done = at + literal_.size();
    }
    if (done < text.size()) stretches.push_back({text.substr(done), false});
  }

 private:
  std::string literal_;
};

class CharacterPattern : public Pattern {
 public:
  explicit CharacterPattern(std::function<bool(char32_t)> matches) : matches_(std::move(matches)) {}

  void find(std::string_view text, std::vector<Stretch>& stretches) const override {
    std::size_t done = 0;
    for (std::size_t at = 0; at < text.size();) {
      const CodePoint here = read_utf8(text.data() + at);
      if (matches_(here.value)) {
        if (at > done) stretches.push_back({text.substr(done, at - done), false});
        stretches.push_back({text.substr(at, here.size), true});
        done = at + here.size;
      }
      at += here.size;
    }
    if (done < text.size()) stretches.push_back({text.substr(done), false});
  }

 private:
  std::function<bool(char32_t)> matches_;
};

}  // namespace

std::unique_ptr<Pattern> make_literal_pattern(std::string literal) {
  expects(!literal.empty(), "an empty literal");
  return std::make_unique<LiteralPattern>(std::move(literal));
}

std::unique_ptr<Pattern> make_character_pattern(std::function<bool(char32_t)> matches) {
  return std::make_unique<CharacterPattern>(std::move(matches));
}

std::unique_ptr<Pattern> read_pattern(const LargeJson& json, const std::string& where) {
  if (json.is_object() && json.contains("String")) {
    const auto literal = member<std::string>(json, "String", where);
    return literal.empty() ? make_regex_pattern(literal, where) : make_literal_pattern(literal);
  }
  if (json.is_object() && json.contains("Regex")) {
    return make_regex_pattern(member<std::string>(json, "Regex", where), where);
  }
  throw DataError(cat(where, ": expected {\"String\": …} or {\"Regex\": …}"));
}

void refuse_swollen(std::size_t before, std::size_t after) {
  constexpr std::size_t kMostTimes = 64, kAlways = std::size_t{1} << 16;
  if (after / kMostTimes > before + kAlways) {
    throw DataError(cat("a replacement of the tokenizer makes ", after, " bytes out of a text of ", before));
  }
}

std::string replace_matches(const Pattern& pattern, std::string_view text, std::string_view replacement) {
  std::vector<Stretch> stretches;
  pattern.find(text, stretches);
  std::size_t size = 0;
  for (const Stretch& stretch : stretches) size += stretch.matched ? replacement.size() : stretch.text.size();
  refuse_swollen(text.size(), size);
  std::string out;
  out.reserve(size);
  for (const Stretch& stretch : stretches) out.append(stretch.matched ? replacement : stretch.text);
  return out;
}

}  // namespace mla
