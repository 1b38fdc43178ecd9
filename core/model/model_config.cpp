#include "core/model/model_config.h"

#include <algorithm>

#include "core/base/error.h"
#include "core/base/fields.h"
#include "core/base/registry.h"
#include "core/model/family.h"

namespace mla {
namespace {

constexpr const char* kSection = "latent_attention";
constexpr const char* kConvertedType = "mlaforge";
/// The same with code for transformers beside it (core/serve/transformers_code_format.cpp), whose keys say nothing
/// more.
constexpr const char* kWithCodeType = "mlaforge_latent";
constexpr const char* kDefaultKind = "latent";
constexpr const char* kStorageSection = "weight_storage";
constexpr const char* kStoredMaps = "maps";
/// A model is written in the first format that can say it, so that older programs read it: 1 knows latent and
/// unconverted layers alone, 2 dense weights alone.
constexpr std::int64_t kFirstFormat = 1, kDenseFormat = 2, kFormat = 3;

/// The config of the model before conversion: model type restored, the section removed.
Json published_part(Json config, const std::string& name) {
  const auto type = config.find("model_type");
  if (type == config.end() || (*type != kConvertedType && *type != kWithCodeType)) return config;
  const auto source = config.find("source_model_type");
  if (source == config.end() || !source->is_string()) {
    throw DataError(cat(name, ": source_model_type = ", source == config.end() ? "absent" : brief(*source),
                        ": must be a string, the model type before the conversion"));
  }
  config["model_type"] = Json(*source);
  config["architectures"] = config.value("source_architectures", Json::array());
  for (const char* key : {kSection, "source_model_type", "source_architectures", "latent_layers", "rope_frequencies"})
    config.erase(key);
  return config;
}

/// The list of layers, after checking what stands around it.
const Json& entries_of(const Json& section, std::size_t layers, const std::string& where) {
  if (!section.is_object()) throw DataError(cat(where, ": expected an object, found ", kind_of(section)));
  for (const auto& [key, value] : section.items()) {
    if (key != "format" && key != "layers" && (key != kStorageSection || section.value("format", Json()) != kFormat))
      throw DataError(cat(where, ".", brief_text(key), ": unknown key"));
  }
  const Json format = section.value("format", Json());
  if (format != kFirstFormat && format != kDenseFormat && format != kFormat) {
    throw DataError(cat(where, ".format = ", brief(format), ": expected ", kFirstFormat, ", ", kDenseFormat, " or ",
                        kFormat, "; this program reads no other"));
  }
  const auto list = section.find("layers");
  if (list == section.end() || !list->is_array()) {
    throw DataError(cat(where, ".layers: expected a list, found ", list == section.end() ? "nothing" : kind_of(*list)));
  }
  if (list->size() != layers) {
    throw DataError(cat(where, ".layers: expected a list of ", layers, " entries, found ", list->size()));
  }
  return *list;
}

/// Takes an optional whole number out of an entry.
std::int64_t take_size(Json& entry, const char* key, std::int64_t otherwise, std::int64_t least, std::int64_t most,
                       const std::string& where) {
  const auto found = entry.find(key);
  if (found == entry.end()) return otherwise;
  const Json value = *found;
  entry.erase(key);
  if (!value.is_number_integer() || value < least || value > most) {
    throw DataError(cat(where, ".", key, " = ", brief(value), ": expected a whole number from ", least, " to ", most));
  }
  return value.get<std::int64_t>();
}

/// The family's layer with what an entry says beside its attention.
LayerSpec take_block(Json& entry, const LayerSpec& family, const std::string& where) {
  LayerSpec block{family.attention, family.feed_forward, family.source_layer};
  block.source_layer = take_size(entry, "source_layer", block.source_layer, 0, kMostLayers, where);
  block.feed_forward.width = take_size(entry, "intermediate", block.feed_forward.width, 1, kMostIntermediate, where);
  if (const auto bias = entry.find("mlp_bias"); bias != entry.end()) {
    if (!bias->is_boolean()) throw DataError(cat(where, ".mlp_bias: expected true or false, found ", kind_of(*bias)));
    block.feed_forward.bias = bias->get<bool>();
    entry.erase("mlp_bias");
  }
  return block;
}

std::string take_kind(Json& entry, const std::string& otherwise, const std::string& where) {
  const auto found = entry.find("kind");
  if (found == entry.end()) return otherwise;
  if (!found->is_string()) throw DataError(cat(where, ".kind: expected a string, found ", kind_of(*found)));
  const std::string kind = found->get<std::string>();
  entry.erase("kind");
  return kind;
}

/// An entry's layer: what it does not state of its kind's fields is as in the family's layer.
LayerSpec read_entry(Json entry, const LayerSpec& family, const std::string& where) {
  const bool only_block = std::all_of(entry.items().begin(), entry.items().end(), [](const auto& item) {
    return item.key() == "source_layer" || item.key() == "intermediate" || item.key() == "mlp_bias";
  });
  LayerSpec layer = take_block(entry, family, where);
  if (only_block) return layer;
  const std::string kind = take_kind(entry, kDefaultKind, where);
  const auto& known = Registry<AttentionSpec>::instance().find(kind, where + ".kind");
  const Json inherited = family.attention->fields();
  for (const auto& [key, value] : inherited.items()) {
    if (known.defaults.contains(key) && !entry.contains(key)) entry[key] = value;
  }
  layer.attention = known.make(entry, where);
  return layer;
}

/// What format 1 leaves to the weights.
void add_stored(Json& entry, std::size_t layer, const StoredDimensions& stored) {
  const std::string norm = cat("model.layers.", layer, ".self_attn.q_norm.weight");
  if (stored && !entry.contains("kind") && !entry.contains("norms_per_head") && stored(norm) == 2)
    entry["norms_per_head"] = true;
}

/// The entry of a layer; null where it is the family's. Fields that are as in the family's layer are left out, and so
/// is what goes without saying: no, where that is the default.
Json write_entry(const LayerSpec& layer, const LayerSpec& family) {
  Json entry = Json::object();
  if (!(*layer.attention == *family.attention)) {
    const std::string kind = layer.attention->kind();
    if (kind != kDefaultKind) entry["kind"] = kind;
    const Json inherited = family.attention->fields();
    const Json& defaults = Registry<AttentionSpec>::instance().find(kind, "kind").defaults;
    const Json fields = layer.attention->fields();
    for (const auto& [key, value] : fields.items()) {
      const auto from = inherited.find(key);
      if (from != inherited.end() ? *from == value : (value == Json(false) && defaults.at(key) == value)) continue;
      entry[key] = value;
    }
  }
  if (layer.source_layer != family.source_layer) entry["source_layer"] = layer.source_layer;
  if (layer.feed_forward.width != family.feed_forward.width) entry["intermediate"] = layer.feed_forward.width;
  if (layer.feed_forward.bias != family.feed_forward.bias) entry["mlp_bias"] = layer.feed_forward.bias;
  return entry.empty() ? Json() : entry;
}

/// The entries of "weight_storage": each a form of storage with the maps that are held so.
void read_storage(const Json& section, ModelSpec& spec, const std::string& where) {
  const auto list = section.find(kStorageSection);
  if (list == section.end()) return;
  if (!list->is_array()) throw DataError(cat(where, ".", kStorageSection, ": expected a list, found ", kind_of(*list)));
  for (std::size_t i = 0; i < list->size(); ++i) {
    const std::string path = cat(where, ".", kStorageSection, "[", i, "]");
    Json entry = (*list)[i];
    const auto maps = entry.is_object() ? entry.find(kStoredMaps) : entry.end();
    if (maps == entry.end() || !maps->is_array() || maps->empty() ||
        !std::all_of(maps->begin(), maps->end(), [](const Json& name) { return name.is_string(); }))
      throw DataError(cat(path, ".", kStoredMaps, ": expected a list of names of linear maps"));
    const auto names = maps->get<std::vector<std::string>>();
    entry.erase(kStoredMaps);
    const std::shared_ptr<const WeightStorage> storage = Registry<WeightStorage>::instance().make(entry, path);
    for (const std::string& name : names) set_storage(spec, name, storage);
  }
  check_storage(spec, cat(where, ".", kStorageSection));
}

/// Each form of storage once, in the order of the first map that is held so.
Json write_storage(const ModelSpec& spec) {
  Json list = Json::array();
  for (const ModelParameter& parameter : model_parameters(spec)) {
    if (!parameter.storage) continue;
    Json form = parameter.storage->fields();
    form["name"] = parameter.storage->kind();
    const auto found = std::find_if(list.begin(), list.end(), [&](Json entry) {
      entry.erase(kStoredMaps);
      return entry == form;
    });
    Json& entry = found != list.end() ? *found : list.emplace_back(std::move(form));
    entry[kStoredMaps].push_back(parameter.map_name());
  }
  return list;
}

/// Whether the first format, which knew latent layers with the family's heads alone, can say this.
bool is_of_first_format(const Json& entry) {
  static const std::vector<std::string> known = {"kept_pairs", "content_width", "value_width", "latent_width",
                                                 "key_slice",  "value_slice",   "key_up",      "value_up"};
  return entry.is_null() || std::all_of(entry.items().begin(), entry.items().end(), [](const auto& item) {
           return std::find(known.begin(), known.end(), item.key()) != known.end();
         });
}

}  // namespace

ModelSpec read_model_config(const Json& config, const std::string& name, const StoredDimensions& stored) {
  ModelSpec spec = read_published_config(published_part(config, name), name);
  const auto section = config.find(kSection);
  if (section == config.end()) return spec;
  const std::string where = cat(name, ": ", kSection);
  const Json& list = entries_of(*section, spec.layers.size(), where);
  try {
    for (std::size_t i = 0; i < list.size(); ++i) {
      const std::string layer = cat(where, ".layers[", i, "]");
      if (list[i].is_null()) continue;
      if (!list[i].is_object()) throw DataError(cat(layer, ": expected an object, found ", kind_of(list[i])));
      Json entry = list[i];
      add_stored(entry, i, stored);
      spec.layers[i] = read_entry(std::move(entry), spec.layers[i], layer);
    }
    check_spec(spec, where + ".layers");
    read_storage(*section, spec, where);
  } catch (const ConfigError& error) {
    throw DataError(error.what());  // the config of a checkpoint is data
  }
  return spec;
}

Json write_model_config(const ModelSpec& spec, Json config, const std::string& name) {
  config = write_published_config(spec, published_part(std::move(config), name), name);
  const ModelSpec published = read_published_config(config, name);
  Json entries = Json::array();
  bool converted = false, first_format = true;
  for (std::size_t i = 0; i < spec.layers.size(); ++i) {
    entries.push_back(write_entry(spec.layers[i], published.layers[i]));
    converted = converted || !entries.back().is_null();
    first_format = first_format && is_of_first_format(entries.back());
  }
  Json storage = write_storage(spec);
  if (converted || !storage.empty()) {
    config["source_model_type"] = config.at("model_type");
    config["source_architectures"] = config.value("architectures", Json::array());
    config["model_type"] = kConvertedType;
    config["architectures"] = {"MlaforgeForCausalLM"};
    config[kSection] = {{"format", first_format ? kFirstFormat : kDenseFormat}, {"layers", std::move(entries)}};
    if (!storage.empty()) {
      config[kSection]["format"] = kFormat;
      config[kSection][kStorageSection] = std::move(storage);
    }
  }
  ModelSpec written = read_model_config(config, name);
  written.ends = spec.ends;  // of the generation config
  expects(written == spec, "a written config.json states the model");
  return config;
}

std::vector<std::pair<std::string, std::string>> passed_over_model_keys(const Json& config, const std::string& name) {
  return passed_over_keys(published_part(config, name), name);
}

}  // namespace mla
