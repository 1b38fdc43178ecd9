#include "experiments/config/config_schema.h"

#include <algorithm>
#include <functional>
#include <map>
#include <set>
#include <sstream>

#include "core/base/field_schema.h"
#include "core/base/registry.h"
#include "core/compress/pass.h"
#include "core/device/placement.h"
#include "core/evaluate/recall_items.h"
#include "core/linalg/svd_choices.h"
#include "core/low_rank/allocator.h"
#include "core/low_rank/factor_choices.h"
#include "core/low_rank/factorizer.h"
#include "core/partial_rope/key_rotation.h"
#include "core/quantize/codec.h"
#include "core/quantize/kvquant_options.h"
#include "core/text/benchmark_question.h"
#include "experiments/config/config_choices.h"
#include "experiments/config/experiment_config.h"
#include "experiments/config/pretrain_config.h"
#include "experiments/data/data_choices.h"
#include "experiments/model/dtype.h"
#include "experiments/tasks/evaluation_task.h"

namespace mla {
namespace {

constexpr const char* kDefs = "#/$defs/";

/// What `mlaforge list KIND` shows, as definitions: "<kind>", an object with a name, and "<kind>.<name>" for each
/// strategy. A file that leaves the name to its base says nothing that could be checked.
template <class Interface>
void define_kind(Json& definitions) {
  const std::string kind = Interface::kKind;
  const auto& registry = Registry<Interface>::instance();
  Json cases = Json::array();
  for (const std::string& name : registry.names()) {
    const auto& entry = registry.find(name, kind);
    Json one = entry.schema();
    Json properties = {{"name", {{"const", name}}}};
    properties.update(one["properties"]);
    one["properties"] = std::move(properties);
    one["description"] = entry.description;
    const std::string definition = cat(kind, ".", name);
    definitions[definition] = std::move(one);
    const Json named = {{"properties", {{"name", {{"const", name}}}}}, {"required", Json::array({"name"})}};
    cases.push_back({{"if", named}, {"then", strategy_schema(definition)}});
  }
  definitions[kind] = {
      {"type", "object"}, {"properties", {{"name", {{"enum", registry.names()}}}}}, {"allOf", std::move(cases)}};
}

const std::map<std::string, std::function<void(Json&)>>& definers() {
  static const std::map<std::string, std::function<void(Json&)>> all = {
      {Pass::kKind, define_kind<Pass>},
      {RotationStrategy::kKind, define_kind<RotationStrategy>},
      {Factorizer::kKind, define_kind<Factorizer>},
      {Allocator::kKind, define_kind<Allocator>},
      {Codec::kKind, define_kind<Codec>},
      {AttentionSpec::kKind, define_kind<AttentionSpec>}};
  return all;
}

/// Defines the kinds that `node`, or what was defined for it, refers to.
void define_all(const Json& node, Json& definitions) {
  if (!node.is_structured()) return;
  if (const auto ref = node.is_object() ? node.find("$ref") : node.end(); ref != node.end()) {
    const std::string kind = ref->get<std::string>().substr(std::string(kDefs).size());
    if (definitions.contains(kind)) return;
    const auto definer = definers().find(kind);
    expects(definer != definers().end(), cat("no schema of the kind ", kind));
    definer->second(definitions);
    for (const Json& one : Json(definitions)) define_all(one, definitions);
    return;
  }
  for (const Json& member : node) define_all(member, definitions);
}

bool is_list(const Json& schema) {
  if (schema.contains("type")) return schema["type"] == "array";
  if (!schema.contains("anyOf")) return false;
  for (const Json& one : schema["anyOf"]) {
    if (is_list(one)) return true;
  }
  return false;
}

std::string any_of_names(const std::vector<std::string>& names) {
  std::string pattern;
  for (const std::string& name : names) pattern += (pattern.empty() ? "" : "|") + name;
  return cat("(", pattern, ")$");
}

/// "+list" and "-key" of every object: see core/base/config.h.
void add_changes(Json& node) {
  if (!node.is_structured()) return;
  for (Json& member : node) add_changes(member);
  if (!node.is_object() || !node.contains("additionalProperties") || node.value("properties", Json()).empty()) return;
  std::vector<std::string> all, lists;
  for (const auto& [name, schema] : node["properties"].items()) {
    all.push_back(name);
    if (is_list(schema)) lists.push_back(name);
  }
  const Json list = {{"type", "array"}};
  Json& patterns = node["patternProperties"] = Json::object();
  if (!lists.empty()) patterns["^[+]" + any_of_names(lists)] = list;
  patterns["^-" + any_of_names(all)] = {{"anyOf", Json::array({{{"const", true}}, list})}};
}

Json choices(const std::vector<std::string>& names) { return {{"type", "string"}, {"enum", names}}; }

/// Narrows a property of type string down to the names that are known.
void limit(Json& properties, const char* field, const std::vector<std::string>& names) {
  Json narrowed = choices(names);
  narrowed.update(properties.at(field));
  properties[field] = std::move(narrowed);
}

/// "float32 | bfloat16" as a list.
std::vector<std::string> listed(const std::string& alternatives) {
  std::vector<std::string> names;
  std::istringstream words(alternatives);
  for (std::string word; words >> word;) {
    if (word != "|") names.push_back(word);
  }
  return names;
}

/// Fields of type string, wherever they stand, whose validate() takes these words alone.
const std::map<std::string, std::vector<std::string>>& word_fields() {
  static const std::map<std::string, std::vector<std::string>> all = {{"arithmetic", arithmetic_names()},
                                                                      {"dtype", listed(dtype_choices())},
                                                                      {"kind", recall_kinds()},
                                                                      {"long_documents", long_document_rules()},
                                                                      {"method", svd_methods()},
                                                                      {"metric", factor_metrics()},
                                                                      {"packing", packing_names()},
                                                                      {"placement", factor_placements()},
                                                                      {"products", listed(products_choices())},
                                                                      {"variant", kvquant_variants()}};
  return all;
}

/// Narrows them: a field of that name means another thing where its default is none of the words.
void limit_words(Json& node) {
  if (!node.is_structured()) return;
  for (Json& member : node) limit_words(member);
  if (!node.is_object() || !node.contains("properties")) return;
  for (const auto& [field, names] : word_fields()) {
    const auto found = node["properties"].find(field);
    if (found == node["properties"].end() || found->value("type", Json()) != "string") continue;
    if (std::find(names.begin(), names.end(), found->value("default", Json())) == names.end()) continue;
    limit(node["properties"], field.c_str(), names);
  }
}

std::vector<std::string> device_names() {
  std::vector<std::string> names;
  for (const KnownDevice& device : known_devices()) names.push_back(device.name);
  return names;
}

void limit_evaluation(Json& evaluation) {
  std::vector<std::string> forms = {"auto"}, prompts = {"as_given"};
  for (const BenchmarkForm& form : benchmark_forms()) forms.push_back(form.name);
  for (const NamedPrompt& prompt : named_prompts()) prompts.push_back(prompt.name);
  Json& properties = evaluation["properties"];
  limit(properties, "task", Registry<EvaluationTask>::instance().names());
  limit(properties, "form", forms);
  limit(properties["prompt"]["properties"], "name", prompts);
}

/// What the plan of an experiment takes out of a config before its fields are read.
void add_plan_keys(Json& properties) {
  const Json values = {{"anyOf", Json::array({{{"type", "array"}, {"minItems", 1}}, {{"const", true}}})}};
  properties["grid"] = {
      {"type", "object"},
      {"properties", Json::object()},
      {"additionalProperties", values},
      {"description",
       "one cell for each combination: {\"compress[0].cached\": [120, 72]}; keys joined by commas change "
       "together"}};
  properties["baseline"] = {{"type", "boolean"},
                            {"description", "also a cell without compression for each setting that is not about it"},
                            {"default", false}};
  properties["skip_invalid"] = {
      {"type", "boolean"}, {"description", "leave out, and count, cells that make no sense"}, {"default", false}};
}

std::string type_of(const Json& schema) {
  if (schema.contains("const")) return schema["const"].is_string() ? schema["const"].get<std::string>() : "true";
  if (schema.contains("enum")) {
    std::string names;
    for (const Json& name : schema["enum"]) names += (names.empty() ? "" : " | ") + name.get<std::string>();
    return names;
  }
  if (schema.contains("$ref")) return schema["$ref"].get<std::string>().substr(std::string(kDefs).size());
  if (schema.contains("allOf")) return type_of(schema["allOf"][0]);
  if (schema.contains("anyOf")) {
    std::string types;
    for (const Json& one : schema["anyOf"]) types += (types.empty() ? "" : " or ") + type_of(one);
    return types;
  }
  if (!schema.contains("type")) return "anything";
  if (schema["type"] == "array") return "list of " + (schema.contains("items") ? type_of(schema["items"]) : "anything");
  return schema["type"].get<std::string>();
}

/// Goes through a schema as a reader of the file would.
class KeyWalk {
 public:
  explicit KeyWalk(const Json& schema) : definitions_(schema.at("$defs")) {}

  void walk(const Json& node, const std::string& path) {
    if (node.contains("$ref")) return strategies(type_of(node), path);
    for (const char* alternatives : {"anyOf", "allOf"}) {
      if (!node.contains(alternatives)) continue;
      for (const Json& one : node[alternatives]) walk(one, path);
    }
    if (node.contains("items")) walk(node["items"], path + "[]");
    if (node.contains("properties")) properties(node["properties"], path);
  }

  std::vector<ConfigKey> keys;

 private:
  void properties(const Json& all, const std::string& path) {
    for (const auto& [name, schema] : all.items()) {
      if (!schema.contains("description")) continue;  // a strategy's name, which stands in the path
      const std::string at = path.empty() ? name : path + "." + name;
      keys.push_back({at, type_of(schema), schema.value("default", Json()), schema["description"].get<std::string>()});
      walk(schema, at);
    }
  }

  void strategies(const std::string& kind, const std::string& path) {
    for (const Json& name : definitions_.at(kind)["properties"]["name"]["enum"]) {
      const std::string strategy = name.get<std::string>(), at = cat(path, ".", strategy);
      const Json& definition = definitions_.at(cat(kind, ".", strategy));
      keys.push_back({at, kind, Json(), definition["description"].get<std::string>()});
      properties(definition["properties"], at);
    }
  }

  const Json& definitions_;
};

}  // namespace

Json file_schema(const std::string& title, Json fields) {
  Json schema = {{"$schema", "https://json-schema.org/draft/2020-12/schema"}, {"title", title}};
  schema.update(fields);
  const Json name = {{"type", "string"}};
  Json& properties = schema["properties"];
  properties["base"] = {
      {"anyOf", Json::array({name, {{"type", "array"}, {"items", name}}})},
      {"description", "files that this one changes, relative to it: later ones win over earlier ones"}};
  properties["$schema"] = {{"type", "string"}, {"description", "where this schema stands, for editors"}};
  Json definitions = Json::object();
  define_all(fields, definitions);
  schema["$defs"] = std::move(definitions);
  limit_words(schema);
  add_changes(schema);
  return schema;
}

Json experiment_schema() {
  Json fields = schema_of(ExperimentConfig{});
  limit(fields["properties"], "device", device_names());
  limit_evaluation(fields["properties"]["evaluate"]["items"]);
  add_plan_keys(fields["properties"]);
  return file_schema("an experiment of mlaforge", std::move(fields));
}

Json pretrain_schema() {
  Json fields = schema_of(PretrainConfig{});
  limit(fields["properties"], "device", device_names());
  return file_schema("a model that mlaforge pretrain trains from nothing", std::move(fields));
}

std::vector<ConfigKey> config_keys(const Json& schema) {
  KeyWalk walk(schema);
  walk.walk(schema, "");
  return walk.keys;
}

}  // namespace mla
