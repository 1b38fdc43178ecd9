#include "core/text/post_processor.h"

#include "core/text/component_json.h"

namespace mla {
namespace {

constexpr const char* kPostProcessors = "TemplateProcessing, ByteLevel, Sequence";

Surroundings read_template(const LargeJson& json, const std::string& where) {
  const auto items = member<LargeJson::array_t>(json, "single", where);
  const auto specials = member<LargeJson>(json, "special_tokens", where);
  Surroundings around;
  bool text_seen = false;
  for (const LargeJson& item : items) {
    if (!item.is_object()) throw DataError(cat(where, ".single: expected objects, found ", kind_of(item)));
    if (item.contains("Sequence")) {
      if (text_seen) throw DataError(cat(where, ".single: the text occurs twice"));
      text_seen = true;
      continue;
    }
    const auto name = member<std::string>(member<LargeJson>(item, "SpecialToken", where + ".single"), "id", where);
    const auto special = member<LargeJson>(specials, name.c_str(), where + ".special_tokens");
    const std::string here = cat(where, ".special_tokens.", for_message(name));
    for (const LargeJson& id : member<LargeJson::array_t>(special, "ids", here)) {
      if (!holds<std::int32_t>(id)) throw DataError(cat(here, ".ids: expected ids, found ", brief(id)));
      (text_seen ? around.after : around.before).push_back(id.get<std::int32_t>());
    }
  }
  if (!text_seen) throw DataError(cat(where, ".single: the text does not occur"));
  return around;
}

}  // namespace

Surroundings read_post_processor(const LargeJson& json, const std::string& where) {
  if (json.is_null()) return {};
  const std::string type = component_type(json, where);
  if (type == "ByteLevel") return {};  // It trims offsets, which are not kept here.
  if (type == "TemplateProcessing") return read_template(json, where);
  if (type == "Sequence") {
    Surroundings all;
    for (const Surroundings& outer : read_components(json, "processors", where, read_post_processor)) {
      all.before.insert(all.before.begin(), outer.before.begin(), outer.before.end());
      all.after.insert(all.after.end(), outer.after.begin(), outer.after.end());
    }
    return all;
  }
  unsupported_component(where, type, kPostProcessors);
}

}  // namespace mla
