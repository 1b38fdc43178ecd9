#include "core/text/multiple_choice_item.h"

#include <algorithm>

#include "core/base/error.h"
#include "core/base/fields.h"
#include "core/base/json.h"
#include "core/text/json_lines.h"

namespace mla {
namespace {

void check(const MultipleChoiceItem& item, const std::string& where) {
  const auto& choices = item.choices;
  if (choices.size() < 2) throw DataError(cat(where, ": choices: expected at least 2, found ", choices.size()));
  for (std::size_t i = 0; i < choices.size(); ++i) {
    if (choices[i].find_first_not_of(" \t\n") == std::string::npos)
      throw DataError(cat(where, ": choices[", i, "] is empty"));
    const auto same = std::find(choices.begin(), choices.begin() + static_cast<std::ptrdiff_t>(i), choices[i]);
    if (same - choices.begin() < static_cast<std::ptrdiff_t>(i)) {
      throw DataError(cat(where, ": choices[", same - choices.begin(), "] and choices[", i, "] are the same"));
    }
  }
  if (item.answer < 0 || item.answer >= std::ssize(choices)) {
    throw DataError(cat(where, ": answer = ", item.answer, " is outside 0..", choices.size() - 1));
  }
}

MultipleChoiceItem item_of(const Json& json, const std::string& where) {
  MultipleChoiceItem item;
  try {
    read_fields(json, "", item);
  } catch (const ConfigError& error) {  // the field lists blame a config; this is data
    throw DataError(cat(where, ": ", error.what()));
  }
  for (const char* field : {"context", "choices", "answer"}) {
    if (!json.contains(field)) throw DataError(cat(where, ": field ", field, " is missing"));
  }
  check(item, where);
  return item;
}

}  // namespace

std::vector<MultipleChoiceItem> read_multiple_choice_items(const std::filesystem::path& file, std::int64_t limit) {
  std::vector<MultipleChoiceItem> items;
  read_json_lines(file, [&](const Json& json, const std::string& where) {
    if (limit > 0 && std::ssize(items) >= limit) return false;
    items.push_back(item_of(json, where));
    return true;
  });
  if (items.empty()) throw DataError(cat(file.string(), ": holds no item"));
  return items;
}

std::string write_multiple_choice_items(const std::vector<MultipleChoiceItem>& items) {
  std::string text;
  for (const MultipleChoiceItem& item : items) text += write_fields(item).dump() + "\n";
  return text;
}

}  // namespace mla
