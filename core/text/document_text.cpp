#include "core/text/document_text.h"

#include "core/base/error.h"
#include "core/base/json.h"

namespace mla {
namespace {

/// Fields told in a message.
constexpr std::size_t kMostFields = 8;

std::string kinds_of_fields(const Json& object) {
  std::string text;
  std::size_t told = 0;
  for (const auto& [key, value] : object.items()) {
    if (told++ == kMostFields) return text + cat(" and ", object.size() - kMostFields, " more");
    text += cat(text.empty() ? "" : ", ", brief(Json(key)), " (", kind_of(value), ")");
  }
  return text.empty() ? "none" : text;
}

/// What to do about an object without the field.
std::string advice_for(const Json& object) {
  for (const char* chat : {"messages", "conversations", "conversation"}) {
    if (object.contains(chat) && object.at(chat).is_array()) {
      return "a chat's messages are no text: write them out with the model's chat template first";
    }
  }
  for (const auto& [key, value] : object.items()) {
    if (value.is_string()) return "name the field of the text with jsonl_field (command line: --field)";
  }
  for (const auto& [key, value] : object.items()) {
    if (value.is_object()) return "the text must be a string of the object itself, not of one in it";
  }
  return "none of them is a string";
}

/// How often `key` stands in the object itself; a parser keeps the last one without a word.
std::int64_t occurrences(const std::string& text, const std::string& key) {
  std::int64_t count = 0;
  const auto watch = [&](int depth, Json::parse_event_t event, Json& parsed) {
    count += event == Json::parse_event_t::key && depth == 1 && parsed == key;
    return true;
  };
  const Json all = Json::parse(text, watch, false);
  return count;
}

bool may_stand_twice(const std::string& text, const std::string& quoted) {
  const std::size_t first = text.find(quoted);
  return first != std::string::npos && text.find(quoted, first + 1) != std::string::npos;
}

}  // namespace

std::string text_of(const JsonText& value, const std::string& field) {
  const Json json = parse_json(value.text, value.where);
  if (json.is_string()) return json.get<std::string>();
  if (!json.is_object()) {
    throw DataError(
        cat(value.where, ": expected a string, or an object with a string '", field, "', found ", kind_of(json)));
  }
  const std::string expected = cat(value.where, ": expected an object with a string '", field, "', found ");
  const auto found = json.find(field);
  if (found == json.end()) {
    throw DataError(cat(expected, "one with the fields ", kinds_of_fields(json), "; ", advice_for(json)));
  }
  if (!found->is_string()) {
    throw DataError(cat(expected, kind_of(*found),
                        " there; skip_bad_lines (command line: --skip-bad-lines) leaves out ",
                        "what has no text, and counts it"));
  }
  if (may_stand_twice(value.text, Json(field).dump()) && occurrences(value.text, field) > 1) {
    throw DataError(cat(value.where, ": '", field, "' is there twice: which one is the text?"));
  }
  return found->get<std::string>();
}

}  // namespace mla
