#include "analysis/records/passes.h"

#include <vector>

#include "analysis/records/record_set.h"
#include "core/base/error.h"

namespace mla {
namespace {

/// The passes that a config lists, in `compress` or in its stages.
std::vector<const Json*> passes_of(const Json& config) {
  std::vector<const Json*> all;
  const auto add = [&](const Json* list) {
    if (!list || !list->is_array()) return;
    for (const Json& pass : *list) all.push_back(&pass);
  };
  add(find_at(config, "compress"));
  const Json* stages = find_at(config, "stages");
  if (!stages || !stages->is_array()) return all;
  for (const Json& stage : *stages) add(stage.is_object() ? find_at(stage, "compress") : nullptr);
  return all;
}

}  // namespace

const Json& pass_of(const Json& config, Json& room) {
  static const Json none;
  const std::vector<const Json*> passes = passes_of(config);
  if (passes.empty()) return none;
  if (passes.size() == 1) return *passes.front();
  std::string names;
  for (const Json* pass : passes) {
    if (!pass->is_object()) continue;
    for (const auto& [key, value] : pass->items()) room[key] = value;
    const auto name = pass->find("name");
    if (name != pass->end() && name->is_string()) names += (names.empty() ? "" : " + ") + name->get<std::string>();
  }
  room["name"] = names;
  return room;
}

Json text_at(const Json& value, const char* part, const char* key) {
  const Json* found = value.is_object() ? find_at(value, cat(part, ".", key)) : nullptr;
  return found ? *found : Json();
}

std::string name_in(const Json& value) {
  const auto found = value.is_object() ? value.find("name") : value.end();
  return found != value.end() && found->is_string() ? found->get<std::string>() : "";
}

Json strategy_text(const Json& pass, const char* part, const char* size, const char* label) {
  const Json name = text_at(pass, part, "name");
  if (!name.is_string()) return "";
  if (name == "none") return name;
  const Json width = text_at(pass, part, size);
  if (const Json latent = text_at(pass, part, "latent"); width.is_null() && latent.is_number()) {
    return cat(name.get<std::string>(), " latent=", latent.dump());
  }
  return width.is_null() ? name : Json(cat(name.get<std::string>(), " ", label, "=", width.dump()));
}

std::string options_text(const Json& pass) {
  std::string text = name_in(pass);
  for (const auto& [key, value] : pass.items()) {
    if (key != "name" && value.is_primitive())
      text += cat(" ", key, "=", value.is_string() ? value.get<std::string>() : value.dump());
  }
  return text;
}

}  // namespace mla
