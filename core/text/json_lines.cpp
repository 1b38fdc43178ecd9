#include "core/text/json_lines.h"

#include "core/base/error.h"
#include "core/text/json_source.h"

namespace mla {

void read_json_lines(const std::filesystem::path& file,
                     const std::function<bool(const Json& json, const std::string& where)>& take) {
  const auto values = open_json(file);
  for (JsonText value; values->next(value);) {
    const Json json = parse_json(value.text, value.where);
    if (!json.is_object()) throw DataError(cat(value.where, ": expected an object, found ", kind_of(json)));
    if (!take(json, value.where)) return;
  }
}

}  // namespace mla
