#include "core/base/error.h"
#include "core/text/benchmark_forms.h"

namespace mla {
namespace {

const Json& field(const Json& row, const char* key, const std::string& where) {
  const auto found = row.find(key);
  if (found == row.end()) throw DataError(cat(where, ": field ", key, " is missing"));
  return *found;
}

}  // namespace

std::string text_of(const Json& row, const char* key, const std::string& where) {
  const Json& value = field(row, key, where);
  if (!value.is_string())
    throw DataError(cat(where, ": ", key, ": expected a string, found ", kind_of(value), " ", brief(value)));
  return value.get<std::string>();
}

std::vector<std::string> texts_of(const Json& row, const char* key, const std::string& where) {
  const Json& value = field(row, key, where);
  if (!value.is_array()) throw DataError(cat(where, ": ", key, ": expected a list of strings, found ", kind_of(value)));
  std::vector<std::string> texts;
  for (const Json& text : value) {
    if (!text.is_string())
      throw DataError(
          cat(where, ": ", key, "[", texts.size(), "]: expected a string, found ", kind_of(text), " ", brief(text)));
    texts.push_back(text.get<std::string>());
  }
  return texts;
}

std::int64_t index_of(const Json& row, const char* key, const std::string& where, std::int64_t offset) {
  const Json& value = field(row, key, where);
  if (value.is_number_integer()) return value.get<std::int64_t>() + offset;
  if (value.is_array() && value.size() == 1 && value[0].is_number_integer())
    return value[0].get<std::int64_t>() + offset;
  if (value.is_string()) {
    const std::string text = value.get<std::string>();
    if (!text.empty() && text.size() < 10 && text.find_first_not_of("0123456789") == std::string::npos)
      return std::stoll(text) + offset;
  }
  throw DataError(cat(where, ": ", key, ": expected the index of a choice, found ", kind_of(value), " ", brief(value)));
}

std::string bare_question(const std::string& query) {
  std::string bare = query;
  for (const std::string front : {"Question: ", "Goal: "}) {
    if (bare.starts_with(front)) bare.erase(0, front.size());
  }
  for (const std::string end : {"\nAnswer:", "\n"}) {
    if (bare.ends_with(end)) bare.erase(bare.size() - end.size());
  }
  return bare;
}

}  // namespace mla
