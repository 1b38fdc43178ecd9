#include "core/model/latent_config.h"

#include <functional>
#include <set>
#include <tuple>
#include <utility>

#include "core/base/error.h"
#include "core/base/fields.h"

namespace mla {
namespace {

constexpr const char* kSection = "latent_attention";
constexpr const char* kConvertedType = "mlaforge";
constexpr std::int64_t kFormat = 1;

/// One layer's JSON object, as a field list.
struct LayerFields {
  std::vector<std::vector<std::int64_t>> kept_pairs;
  std::int64_t content_width = 0, value_width = 0, latent_width = 0;
  std::vector<std::int64_t> key_slice, value_slice;
  bool key_up = true, value_up = true;

  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("kept_pairs", self.kept_pairs, "rotation pairs of each rotated key, indices into the model's frequencies");
    visit("content_width", self.content_width, "position-free dims of a head");
    visit("value_width", self.value_width, "dims of a value head");
    visit("latent_width", self.latent_width, "elements of the latent per token");
    visit("key_slice", self.key_slice, "[begin, width] of the latent that keys are rebuilt from");
    visit("value_slice", self.value_slice, "[begin, width] of the latent that values are rebuilt from");
    visit("key_up", self.key_up, "keys have an up-projection");
    visit("value_up", self.value_up, "values have an up-projection");
  }
};

using Refuse = std::function<void(const std::string&)>;

void check_pairs(const LayerFields& layer, const Geometry& geometry, const Refuse& refuse) {
  const std::size_t heads = layer.kept_pairs.size();
  if (heads != 1 && heads != static_cast<std::size_t>(geometry.kv_heads)) {
    refuse(cat("kept_pairs has ", heads, " entries; expected 1 or ", geometry.kv_heads));
  }
  for (const auto& pairs : layer.kept_pairs) {
    if (pairs.size() != layer.kept_pairs.front().size())
      refuse("kept_pairs: every head needs the same number of pairs");
    for (std::int64_t pair : pairs) {
      if (pair < 0 || pair >= geometry.head_dim / 2)
        refuse(cat("kept_pairs: ", pair, " is not a pair of head_dim ", geometry.head_dim));
    }
    if (std::set<std::int64_t>(pairs.begin(), pairs.end()).size() != pairs.size())
      refuse("kept_pairs: a head has a pair twice");
  }
}

/// Bounds under which products of these widths stay far below 2^63; weights of other shapes are refused later.
void check_widths(const LayerFields& layer, const Refuse& refuse) {
  for (const auto& [name, width, least, most] :
       {std::tuple{"content_width", layer.content_width, std::int64_t{0}, kMostHeadDim},
        {"value_width", layer.value_width, std::int64_t{1}, kMostHeadDim},
        {"latent_width", layer.latent_width, std::int64_t{1}, 2 * kMostHeadRows}}) {
    if (width < least || width > most) refuse(cat(name, " = ", width, ": must be from ", least, " to ", most));
  }
  if (layer.kept_pairs.front().empty() && layer.content_width == 0) refuse("keys have neither rotated nor other dims");
  for (const auto& [name, slice] : {std::pair{"key_slice", &layer.key_slice}, {"value_slice", &layer.value_slice}}) {
    if (slice->size() != 2 || slice->at(0) < 0 || slice->at(1) < 0 || slice->at(0) > layer.latent_width ||
        slice->at(1) > layer.latent_width - slice->at(0)) {
      refuse(cat(name, ": expected [begin, width] within the latent of ", layer.latent_width, " elements"));
    }
  }
}

/// Checks what the constructor of LatentAttention would otherwise report as a broken promise.
void check_layer(const LayerFields& layer, const Geometry& geometry, const std::string& where) {
  const auto refuse = [&](const std::string& what) { throw DataError(cat(where, ": ", what)); };
  check_pairs(layer, geometry, refuse);
  check_widths(layer, refuse);
  if (!layer.key_up && layer.key_slice[1] != geometry.kv_heads * layer.content_width)
    refuse("key_slice has another width than the keys");
  if (!layer.value_up && layer.value_slice[1] != geometry.kv_heads * layer.value_width)
    refuse("value_slice has another width than the values");
  if (geometry.qk_norm && (layer.key_up || std::ssize(layer.kept_pairs) != geometry.kv_heads))
    refuse("a model with QK-norm needs key_up = false and kept_pairs for each KV head");
}

/// The list of layers, after checking what stands around it.
Json read_section(const Json& section, const std::string& where) {
  if (!section.is_object()) throw DataError(cat(where, ": expected an object, found ", kind_of(section)));
  for (const auto& [key, value] : section.items()) {
    if (key != "format" && key != "layers") throw DataError(cat(where, ".", brief_text(key), ": unknown key"));
  }
  const Json format = section.value("format", Json()), list = section.value("layers", Json());
  if (format != kFormat) {
    throw DataError(cat(where, ".format = ", brief(format), ": expected ", kFormat, "; this program reads no other"));
  }
  if (!list.is_array()) throw DataError(cat(where, ".layers: expected a list, found ", kind_of(list)));
  return list;
}

}  // namespace

std::vector<std::optional<LatentLayerConfig>> read_latent_config(const Json& config, const Geometry& geometry,
                                                                 const std::string& name) {
  std::vector<std::optional<LatentLayerConfig>> layers(static_cast<std::size_t>(geometry.layers));
  const auto section = config.find(kSection);
  if (section == config.end()) return layers;
  const std::string where = cat(name, ": ", kSection);
  const Json list = read_section(*section, where);
  if (list.size() != layers.size()) {
    throw DataError(cat(where, ".layers: expected a list of ", layers.size(), " entries, found ", list.size()));
  }
  for (std::size_t i = 0; i < layers.size(); ++i) {
    if (list[i].is_null()) continue;
    LayerFields fields;
    const std::string layer = cat(where, ".layers[", i, "]");
    try {
      read_fields(list[i], layer, fields);
    } catch (const ConfigError& error) {
      throw DataError(error.what());  // the config of a checkpoint is data
    }
    check_layer(fields, geometry, layer);
    layers[i] = LatentLayerConfig{{fields.kept_pairs,
                                   fields.content_width,
                                   fields.value_width,
                                   fields.latent_width,
                                   {fields.key_slice[0], fields.key_slice[1]},
                                   {fields.value_slice[0], fields.value_slice[1]}},
                                  fields.key_up,
                                  fields.value_up};
  }
  return layers;
}

Json with_latent_config(Json config, const Decoder& decoder, const std::string& name) {
  Json layers = Json::array();
  bool converted = false;
  for (const DecoderLayer& layer : decoder.layers) {
    const auto* latent = dynamic_cast<const LatentAttention*>(layer.attention.get());
    if (!latent) {
      layers.push_back(nullptr);
      continue;
    }
    converted = true;
    const LatentLayout& layout = latent->layout();
    layers.push_back(write_fields(LayerFields{layout.kept,
                                              layout.content_width,
                                              layout.value_width,
                                              layout.latent_width,
                                              {layout.key.begin, layout.key.width},
                                              {layout.value.begin, layout.value.width},
                                              latent->has_key_up(),
                                              latent->has_value_up()}));
  }
  config = without_latent_config(std::move(config), name);
  if (!converted) return config;
  config["source_model_type"] = config.at("model_type");
  config["source_architectures"] = config.value("architectures", Json::array());
  config["model_type"] = kConvertedType;
  config["architectures"] = {"MlaforgeForCausalLM"};
  config[kSection] = {{"format", kFormat}, {"layers", std::move(layers)}};
  return config;
}

Json without_latent_config(Json config, const std::string& name) {
  const auto type = config.find("model_type");
  if (type == config.end() || *type != kConvertedType) return config;
  const auto source = config.find("source_model_type");
  if (source == config.end() || !source->is_string()) {
    throw DataError(cat(name, ": source_model_type = ", source == config.end() ? "absent" : brief(*source),
                        ": must be a string, the model type before the conversion"));
  }
  config["model_type"] = Json(*source);
  config["architectures"] = config.value("source_architectures", Json::array());
  for (const char* key : {kSection, "source_model_type", "source_architectures"}) config.erase(key);
  return config;
}

}  // namespace mla
