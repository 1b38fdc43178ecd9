#include "experiments/config/pretrain_config.h"

#include "core/base/config.h"
#include "core/base/error.h"
#include "core/base/fields.h"
#include "core/model/family.h"
#include "core/model/initialize.h"
#include "experiments/model/dtype.h"

namespace mla {
namespace {

/// Every layer with attention of another kind; what it does not name of its fields is as in the layer.
ModelSpec with_attention(ModelSpec spec, const Json& attention) {
  if (!attention.is_object() || !attention.contains("name") || !attention["name"].is_string())
    throw ConfigError("attention: expected an object with the name of a kind of attention, or null");
  const auto& kind = Registry<AttentionSpec>::instance().find(attention["name"].get<std::string>(), "attention.name");
  for (LayerSpec& layer : spec.layers) {
    Json own = attention;
    const Json published = layer.attention->fields();
    for (const auto& [field, value] : published.items()) {
      if (kind.defaults.contains(field) && !own.contains(field)) own[field] = value;
    }
    own.erase("name");
    layer.attention = kind.make(own, "attention");
  }
  check_spec(spec, "attention: layer");
  return spec;
}

}  // namespace

void PretrainConfig::validate() const {
  if (output.empty()) throw ConfigError("output: name a folder for the model");
  if (tokenizer.empty()) throw ConfigError("tokenizer: name a tokenizer file or folder");
  parse_dtype(dtype, "dtype");
  placement();  // refuses what is none
  train.validate("train");
  if (train.partial_rope_steps > 0)
    throw ConfigError("train.partial_rope_steps: a model trained from nothing has one stage");
  if (train.evaluate_every > 0)
    throw ConfigError("train.evaluate_every: a pretraining has no list `evaluate`; train in an experiment to measure");
  if (!attention.is_null() && !from.empty())
    throw ConfigError("from: a model of another kind of attention begins with random weights; leave it out");
  if (train.options.lora)
    throw ConfigError("train.lora: pretraining trains all weights; adapters heal a trained model, in an experiment");
  spec();  // refuses a shape that no model can have
  initializer_range();
}

Placement PretrainConfig::placement() const {
  return Placement::in(at::kFloat, parse_device(device, "device"), parse_products(products, "products"));
}

ModelSpec PretrainConfig::spec() const {
  if (!config.is_object()) throw ConfigError(cat("config: expected an object, found ", kind_of(config)));
  try {
    const ModelSpec published = read_published_config(config, "config");
    return attention.is_null() ? published : with_attention(published, attention);
  } catch (const DataError& error) {  // here it is the user's own config, not a file of a model
    throw ConfigError(error.what());
  }
}

double PretrainConfig::initializer_range() const {
  const Json range = config.value("initializer_range", Json(kInitializerRange));
  if (!range.is_number() || range.get<double>() < 0) {
    throw ConfigError(cat("config.initializer_range = ", brief(range), ": expected a number >= 0"));
  }
  return range.get<double>();
}

PretrainConfig read_pretrain_config(const std::filesystem::path& file, const std::vector<std::string>& assignments) {
  Json json = resolve_config(file);
  for (const std::string& assignment : assignments) apply_set(json, assignment);
  expand_environment(json);
  PretrainConfig config;
  try {
    read_fields(json, "", config);
    config.validate();
    config.products = settled_products(config.products, "products");
  } catch (const ConfigError& error) {
    throw ConfigError(cat(file.string(), ": ", error.what()));
  }
  return config;
}

}  // namespace mla
