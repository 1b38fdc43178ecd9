#include "core/base/config_merge.h"

#include <string>
#include <vector>

#include "core/base/error.h"
#include "core/base/suggest.h"

namespace mla {
namespace {

std::string joined(const std::string& path, const std::string& key) { return path.empty() ? key : path + "." + key; }

bool is_change(const std::string& key) { return key.size() > 1 && (key[0] == '+' || key[0] == '-'); }

std::vector<std::string> keys_of(const Json& object) {
  std::vector<std::string> keys;
  for (const auto& [key, value] : object.items()) keys.push_back(key);
  return keys;
}

/// How an entry of a list is called: a value by itself, an object by its name or its task.
std::string label_of(const Json& entry) {
  if (entry.is_string()) return entry.get<std::string>();
  if (entry.is_object()) {
    for (const char* key : {"name", "task"}) {
      if (entry.contains(key) && entry[key].is_string()) return entry[key].get<std::string>();
    }
  }
  return brief(entry);
}

bool is_meant(const Json& entry, const Json& what) {
  return entry == what || (what.is_string() && label_of(entry) == what.get<std::string>());
}

void remove_entry(Json& list, const Json& what, const std::string& where) {
  std::vector<std::size_t> found;
  std::vector<std::string> labels;
  for (std::size_t i = 0; i < list.size(); ++i) {
    if (is_meant(list[i], what)) found.push_back(i);
    labels.push_back(label_of(list[i]));
  }
  if (found.empty()) throw ConfigError(cat(where, ": the list has no entry ", brief(what), "; it has: ", join(labels)));
  if (found.size() > 1) {
    throw ConfigError(cat(where, ": ", brief(what), " stands for ", found.size(),
                          " entries of the list; give them names of their own, or write the whole list"));
  }
  list.erase(found.front());
}

void remove_key(Json& object, const std::string& key, const std::string& where) {
  if (!object.contains(key)) {
    throw ConfigError(cat(where, ": there is no '", key, "' to remove; ",
                          object.empty() ? "nothing stands there" : alternatives(key, keys_of(object))));
  }
  object.erase(key);
}

/// "-key": what.
void remove(Json& under, const std::string& key, const Json& what, const std::string& where) {
  if (what == true) return remove_key(under, key, where);
  if (!what.is_array())
    throw ConfigError(cat(where, ": expected true, or a list of what goes, found ", kind_of(what), " ", brief(what)));
  if (!under.contains(key)) remove_key(under, key, where);
  Json& from = under[key];
  if (!from.is_structured())
    throw ConfigError(cat(where, ": '", key, "' is ", kind_of(from), ", which has no entries; true removes all of it"));
  for (const Json& one : what) {
    if (from.is_array()) {
      remove_entry(from, one, where);
    } else if (one.is_string()) {
      remove_key(from, one.get<std::string>(), where);
    } else {
      throw ConfigError(cat(where, ": expected names of keys, found ", brief(one)));
    }
  }
}

/// "+key": more.
void extend(Json& under, const std::string& key, const Json& more, const std::string& where) {
  if (!more.is_array()) throw ConfigError(cat(where, ": expected a list of entries to add, found ", brief(more)));
  if (!under.contains(key) || !under[key].is_array()) {
    throw ConfigError(
        cat(where, ": no base has a list '", key, "' to extend; write \"", key, "\": […] where there is none"));
  }
  for (const Json& entry : more) under[key].push_back(entry);
}

void merge(Json& under, const Json& over, const std::string& path) {
  if (!over.is_object()) {
    under = over;
    return;
  }
  if (!under.is_object()) under = Json::object();
  for (const char sign : {'-', '+'}) {
    for (const auto& [key, value] : over.items()) {
      if (!is_change(key) || key[0] != sign) continue;
      const std::string name = key.substr(1), where = joined(path, key);
      if (over.contains(name))
        throw ConfigError(cat(where, ": '", name, "' stands in the same object, too; say one of them"));
      sign == '-' ? remove(under, name, value, where) : extend(under, name, value, where);
    }
  }
  for (const auto& [key, value] : over.items()) {
    if (!is_change(key)) merge(under[key], value, joined(path, key));
  }
}

}  // namespace

void merge_config(Json& under, const Json& over) { merge(under, over, ""); }

}  // namespace mla
