#include "core/base/json.h"

#include <algorithm>
#include <array>

#include "core/base/error.h"
#include "core/base/file.h"

namespace mla {
namespace {

/// Longest value and longest explanation in a message.
constexpr std::size_t kLongest = 80, kLongestReason = 240;

std::string shortened(std::string text, std::size_t longest) {
  if (text.size() > longest) text.replace(longest - 3, std::string::npos, "...");
  return text;
}

/// "<name>:<line>:<column>" of byte `at` of `text`.
std::string place(const std::string& name, std::string_view text, std::size_t at) {
  const std::string_view before = text.substr(0, std::min(at, text.size()));
  const std::size_t newline = before.rfind('\n');
  return cat(name, ":", 1 + std::count(before.begin(), before.end(), '\n'), ":",
             1 + (newline == std::string_view::npos ? before.size() : before.size() - newline - 1));
}

/// Goes through JSON text before it is parsed, counting how deep values lie in each other and the keys of each object.
class LimitCheck {
 public:
  LimitCheck(std::string_view text, std::size_t most_keys) : text_(text), most_keys_(most_keys) {}

  /// What is beyond a limit, or null; position() then tells where.
  const char* exceeded() {
    for (at_ = 0; at_ < text_.size(); ++at_) {
      const char letter = text_[at_];
      if (letter == '"') {
        skip_string();
      } else if (letter == '/') {
        skip_comment();
      } else if (letter == '[' || letter == '{') {
        if (depth_ == kJsonDepth) return "nested too deep";
        keys_[depth_++] = 0;
      } else if (letter == ']' || letter == '}') {
        depth_ -= depth_ > 0;
      } else if (letter == '\0') {
        return "a zero byte";  // the parser would take it for the end, and leave out what follows
      } else if (letter == ':' && depth_ > 0 && ++keys_[depth_ - 1] > most_keys_) {
        return "too many keys in one object";
      }
    }
    return nullptr;
  }
  std::size_t position() const { return at_; }

 private:
  void skip_string() {
    for (++at_; at_ < text_.size() && text_[at_] != '"'; ++at_) at_ += text_[at_] == '\\';
  }
  void skip_comment() {
    const char next = at_ + 1 < text_.size() ? text_[at_ + 1] : '\0';
    constexpr std::string_view kEnds("\n\r\0", 3);
    if (next == '/') at_ = std::min(text_.find_first_of(kEnds, at_), text_.size());
    if (next == '*') at_ = std::min(text_.find("*/", at_ + 2), text_.size() - 2) + 1;
  }

  std::string_view text_;
  std::size_t most_keys_, at_ = 0, depth_ = 0;
  std::array<std::size_t, kJsonDepth> keys_{};
};

template <class Kind>
LimitCheck limits_of(std::string_view text) {
  return {text, std::is_same_v<Kind, Json> ? kJsonKeys : text.size()};
}

template <class Kind>
Kind parse(const std::string& text, const std::string& name) {
  LimitCheck limits = limits_of<Kind>(text);
  if (const char* what = limits.exceeded()) {
    throw DataError(cat(place(name, text, limits.position()), ": JSON of this form is not read: ", what, "; at most ",
                        kJsonDepth, " levels and ", kJsonKeys, " keys"));
  }
  try {
    return Kind::parse(text, nullptr, true, true);
  } catch (const nlohmann::json::parse_error& error) {
    std::string what = error.what();
    // The library writes "[json.exception] parse error at line ...: what"; only the last part says something new.
    if (const std::size_t colon = what.find(": "); colon != std::string::npos) what.erase(0, colon + 2);
    std::replace(what.begin(), what.end(), '\n', ' ');
    throw DataError(cat(place(name, text, error.byte > 0 ? error.byte - 1 : 0),
                        ": malformed JSON: ", shortened(std::move(what), kLongestReason)));
  } catch (const nlohmann::json::exception& error) {  // for example a number beyond the range of double
    throw DataError(cat(name, ": malformed JSON: ", shortened(error.what(), kLongestReason)));
  }
}

template <class Kind>
std::string kind(const Kind& value) {
  if (value.is_null()) return "null";
  if (value.is_boolean()) return "a boolean";
  if (value.is_number_integer()) return "an integer";
  if (value.is_number()) return "a number";
  if (value.is_string()) return "a string";
  if (value.is_array()) return "an array";
  return "an object";
}

/// A string as JSON, without reading more of it than can be shown.
std::string json_text(std::string_view text) {
  return Json(text.substr(0, kLongest)).dump(-1, ' ', true, Json::error_handler_t::replace);
}

/// Writes `value` to `out` as dump() does, until `out` is longer than can be shown.
template <class Kind>
void write_beginning(const Kind& value, std::string& out) {
  if (out.size() > kLongest) return;
  if (value.is_string()) {
    out += json_text(value.template get_ref<const std::string&>());
  } else if (value.is_structured()) {
    out += value.is_array() ? '[' : '{';
    bool first = true;
    for (auto item = value.begin(); item != value.end() && out.size() <= kLongest; ++item) {
      if (!first) out += ',';
      first = false;
      if (value.is_object()) out += json_text(item.key()) + ":";
      write_beginning(*item, out);
    }
    out += value.is_array() ? ']' : '}';
  } else {
    out += value.dump();
  }
}

template <class Kind>
std::string beginning_of(const Kind& value) {
  std::string text;
  write_beginning(value, text);
  return shortened(std::move(text), kLongest);
}

}  // namespace

Json parse_json(const std::string& text, const std::string& name) { return parse<Json>(text, name); }

std::optional<Json> try_parse_json(std::string_view text) {
  if (limits_of<Json>(text).exceeded()) return std::nullopt;
  Json value = Json::parse(text, nullptr, false);
  if (value.is_discarded()) return std::nullopt;
  return value;
}

Json read_json(const std::filesystem::path& path) { return parse_json(read_file(path), path.string()); }

LargeJson parse_large_json(const std::string& text, const std::string& name) { return parse<LargeJson>(text, name); }

LargeJson read_large_json(const std::filesystem::path& path) {
  return parse_large_json(read_file(path), path.string());
}

void write_json(const std::filesystem::path& path, const Json& value, int indent) {
  write_file_atomically(path, value.dump(indent, ' ', false, Json::error_handler_t::replace) + "\n");
}

std::string kind_of(const Json& value) { return kind(value); }
std::string kind_of(const LargeJson& value) { return kind(value); }
std::string brief(const Json& value) { return beginning_of(value); }
std::string brief(const LargeJson& value) { return beginning_of(value); }

std::string brief_text(std::string_view text) {
  const std::string json = json_text(text);
  return shortened(json.substr(1, json.size() - 2), kLongest);
}

}  // namespace mla
