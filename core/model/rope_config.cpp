#include "core/model/rope_config.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "core/base/error.h"
#include "core/base/log.h"
#include "core/base/suggest.h"

namespace mla {
namespace {

/// Beyond it, or below its inverse, attention overflows or sees no differences.
constexpr double kMostScale = 1e6;
constexpr const char* kScaling = "rope_scaling";
constexpr const char* kParameters = "rope_parameters";
constexpr const char* kOriginal = "original_max_position_embeddings";

/// A base of 1 or less gives no falling sequence of frequencies; yarn takes its logarithm.
double read_theta(ConfigReader& reader, double otherwise, const char* key = "rope_theta") {
  reader.refuse_null(key);
  const double theta = reader.number_or(key, otherwise);
  if (!(theta > 1)) reader.refuse(key, "must be greater than 1");
  return theta;
}

double positive_or(ConfigReader& reader, const char* key, double otherwise) {
  const double value = reader.number_or(key, otherwise);
  if (!(value > 0)) reader.refuse(key, "must be greater than 0");
  return value;
}

std::string read_type(ConfigReader& scaling, const RopeDefaults& defaults) {
  scaling.refuse_null("rope_type");
  scaling.refuse_null("type");
  const auto current = [&](const std::string& name) {
    return defaults.yarn_is_longrope && (name == "su" || name == "yarn") ? "longrope" : name;
  };
  const std::string old_name = current(scaling.string_or("type", "default"));
  const std::string type = current(scaling.string_or("rope_type", old_name));
  if (scaling.has("type") && type != old_name)
    scaling.refuse("type", cat("contradicts rope_type = ", brief_text(type)));
  const std::vector<std::string> known = {"default", "linear", "dynamic", "llama3", "yarn", "longrope"};
  if (std::find(known.begin(), known.end(), type) == known.end()) {
    scaling.refuse(scaling.has("rope_type") ? "rope_type" : "type", "not supported; known: " + join(known));
  }
  return type;
}

/// `factor` of a scaled type; yarn takes null for the ratio of the context lengths, longrope its absence, too.
double read_factor(ConfigReader& scaling, const std::string& type, double ratio) {
  if ((type == "yarn" && scaling.is_null("factor")) || (type == "longrope" && !scaling.has("factor"))) {
    scaling.value("factor");
    return ratio;
  }
  if (!scaling.has("factor")) scaling.refuse("factor", "needed for " + type);
  const double factor = scaling.number_or("factor", 1);
  if (!(factor >= 1)) scaling.refuse("factor", "must be >= 1");
  return factor;
}

void read_llama3(ConfigReader& scaling, RotaryScaling& rule) {
  for (const char* needed : {"low_freq_factor", "high_freq_factor"}) {
    if (!scaling.has(needed)) scaling.refuse(needed, "needed for llama3");
  }
  rule.low_frequency_factor = positive_or(scaling, "low_freq_factor", 1);
  rule.high_frequency_factor = positive_or(scaling, "high_freq_factor", 4);
  if (rule.high_frequency_factor <= rule.low_frequency_factor)
    scaling.refuse("high_freq_factor", "must exceed low_freq_factor");
}

void read_yarn(ConfigReader& scaling, RotaryScaling& rule) {
  const auto or_default = [&](const char* key, double standard) {  // 0 stands for the default, as in transformers
    const double value = scaling.number_or(key, standard);
    if (value < 0) scaling.refuse(key, "must not be negative");
    return value == 0 ? standard : value;
  };
  rule.beta_fast = or_default("beta_fast", rule.beta_fast);
  rule.beta_slow = or_default("beta_slow", rule.beta_slow);
  if (rule.beta_fast < rule.beta_slow) scaling.refuse("beta_fast", cat("is less than beta_slow = ", rule.beta_slow));
  rule.truncate = scaling.boolean_or("truncate", !scaling.is_null("truncate"));
  rule.attention_factor = scaling.optional_number("attention_factor");
  if (rule.attention_factor && !(*rule.attention_factor > 0)) scaling.refuse("attention_factor", "must be positive");
  for (const auto& [key, value] : {std::pair{"mscale", &rule.mscale}, {"mscale_all_dim", &rule.mscale_all_dim}}) {
    *value = scaling.optional_number(key);
    if (*value && **value < 0) scaling.refuse(key, "must not be negative");
  }
  for (const char* key : {"extrapolation_factor", "attn_factor"}) scaling.require(key, 1, "not supported but as 1");
}

std::vector<double> read_factors(ConfigReader& scaling, const char* key, std::int64_t pairs) {
  const Json list = scaling.value(key);
  if (list.is_null()) scaling.refuse(key, "needed for longrope");
  std::vector<double> factors;
  for (const Json& factor : list.is_array() ? list : Json::array()) {
    if (!factor.is_number() || !(factor.get<double>() > 0)) scaling.refuse(key, "must list numbers greater than 0");
    factors.push_back(factor.get<double>());
  }
  if (std::ssize(factors) != pairs) scaling.refuse(key, cat("must list a number for each of ", pairs, " pairs"));
  return factors;
}

void read_longrope(ConfigReader& scaling, RotaryScaling& rule, const ModelFrame& frame) {
  rule.short_factors = read_factors(scaling, "short_factor", frame.rope_dim / 2);
  rule.long_factors = read_factors(scaling, "long_factor", frame.rope_dim / 2);
  rule.attention_factor = scaling.optional_number("attention_factor");
  if (rule.attention_factor && !(*rule.attention_factor > 0)) scaling.refuse("attention_factor", "must be positive");
  if (!rule.attention_factor && rule.factor > 1 && rule.original_positions < 2)
    scaling.refuse(kOriginal, "longrope takes its logarithm: must be at least 2");
}

/// `above` is the config.json that `scaling` is a part of: Phi-3's style has the original length there.
RotaryScaling read_scaling(ConfigReader& scaling, ConfigReader& above, const ModelFrame& frame,
                           const RopeDefaults& defaults) {
  RotaryScaling rule;
  rule.type = read_type(scaling, defaults);
  scaling.require("partial_rotary_factor", 1.0, "only 1 is supported");
  if (rule.type == "default") {
    scaling.require("factor", 1, "has no effect without a rope_type such as linear, dynamic or yarn");
    scaling.value(kOriginal);
    return rule;
  }
  if (defaults.yarn_is_longrope && rule.type != "longrope")  // Phi-3's, which transformers refuses, too
    scaling.refuse(scaling.has("rope_type") ? "rope_type" : "type", "not supported; known: default, longrope");
  const bool has_original = rule.type == "llama3" || rule.type == "yarn" || rule.type == "longrope";
  ConfigReader& place = has_original && above.has(kOriginal) ? above : scaling;
  if (rule.type == "llama3" && !place.has(kOriginal)) scaling.refuse(kOriginal, "needed for llama3");
  const std::int64_t otherwise = defaults.original_positions > 0 ? defaults.original_positions : frame.max_positions;
  rule.original_positions = place.size_or(kOriginal, otherwise, kMostPositions);
  scaling.value(kOriginal);
  const double ratio = static_cast<double>(frame.max_positions) / static_cast<double>(rule.original_positions);
  rule.factor = read_factor(scaling, rule.type, ratio);
  if (rule.type == "dynamic" && frame.rope_dim == 2)
    scaling.refuse(scaling.has("rope_type") ? "rope_type" : "type", "needs heads of more than 2 dims");
  if (rule.type == "llama3") read_llama3(scaling, rule);
  if (rule.type == "yarn") read_yarn(scaling, rule);
  if (rule.type == "longrope") read_longrope(scaling, rule, frame);
  return rule;
}

bool holds_something(const Json& value) { return !value.is_null() && !(value.is_object() && value.empty()); }

/// Which of the two keys counts: rope_scaling, unless it is empty.
const char* choose(ConfigReader& config, const Json& scaling, const Json& parameters, double default_theta) {
  for (const auto& [key, value] : {std::pair{kScaling, &scaling}, {kParameters, &parameters}}) {
    if (!value->is_null() && !value->is_object()) config.refuse(key, "must be an object");
  }
  if (!holds_something(scaling)) return kParameters;
  if (holds_something(parameters) && parameters != scaling) {
    const double theta = scaling.contains("rope_theta") ? ConfigReader(scaling, "").number_or("rope_theta", 0)
                                                        : config.number_or("rope_theta", default_theta);
    ConfigReader other(parameters, cat(config.name(), ": ", kParameters));
    if (other.number_or("rope_theta", theta) != theta) {
      other.refuse("rope_theta", cat("rope_scaling stands beside rope_parameters and is the one that counts, but its "
                                     "rope_theta is ",
                                     theta, ": leave one of the two out"));
    }
    log_warning_once(cat(config.name(), ": rope_scaling counts, as in transformers, not rope_parameters = ",
                         brief(parameters), " beside it"));
  }
  return kScaling;
}

/// What no rule above foresaw must not become NaN logits.
void check_frequencies(const ConfigReader& config, const std::string& key, const ModelFrame& frame) {
  const Rotary rotary = frame.rotary();
  for (const std::int64_t length : {std::int64_t{1}, frame.max_positions}) {
    const at::Tensor frequencies = rotary.frequencies(length);
    const bool fine = at::isfinite(frequencies).all().item<bool>() && frequencies.ge(0).all().item<bool>();
    if (!fine) config.refuse(key, "gives rotation frequencies that are not finite");
  }
  if (!(rotary.logit_scale() > 1 / kMostScale && rotary.logit_scale() < kMostScale))
    config.refuse(key, cat("scales the logits of attention by ", rotary.logit_scale(), ", which nothing is left of"));
}

using PassedOver = std::vector<std::pair<std::string, std::string>>;

/// One set of parameters: fills in theta and scaling.
void read_parameters(const Json& chosen, const std::string& key, ConfigReader& config, ModelFrame& frame,
                     const RopeDefaults& defaults, PassedOver* passed_over) {
  if (chosen.is_null()) return;
  ConfigReader reader(chosen, config.name() + ": " + key, harmless_rope_reason);
  frame.rope_theta = read_theta(reader, frame.rope_theta);
  frame.rope_scaling = read_scaling(reader, config, frame, defaults);
  reader.finish();
  for (const auto& [inner, reason] : reader.passed_over()) {
    if (passed_over) passed_over->emplace_back(key + "." + inner, reason);
  }
}

constexpr const char *kFullLayers = "full_attention", *kSlidingLayers = "sliding_attention";

/// Whether parameters are those of each type of layers.
bool is_by_type(const Json& parameters) {
  return parameters.is_object() && (parameters.contains(kFullLayers) || parameters.contains(kSlidingLayers));
}

/// Parameters by type of layers: those of the model, and the base of layers with windows.
void read_by_type(const Json& parameters, ConfigReader& config, ModelFrame& frame, const RopeDefaults& defaults,
                  PassedOver* passed_over) {
  const std::string key = kParameters;
  ConfigReader types(parameters, config.name() + ": " + key);
  const Json full = types.value(kFullLayers), sliding = types.value(kSlidingLayers);
  types.finish();
  for (const auto& [name, part] : {std::pair{kFullLayers, &full}, {kSlidingLayers, &sliding}})
    if (!part->is_null() && !part->is_object()) types.refuse(name, "must be an object");
  read_parameters(full, cat(key, ".", kFullLayers), config, frame, defaults, passed_over);
  ModelFrame local = frame;
  local.rope_theta = frame.local_rope_theta;
  local.rope_scaling = {};
  read_parameters(sliding, cat(key, ".", kSlidingLayers), config, local, defaults, passed_over);
  if (local.rope_scaling.type != "default")
    ConfigReader(sliding, cat(config.name(), ": ", key, ".", kSlidingLayers))
        .refuse("rope_type", "not supported for layers with a window; known: default");
  frame.local_rope_theta = local.rope_theta;
}

}  // namespace

void read_rotary(ConfigReader& config, ModelFrame& frame, PassedOver* passed_over, const RopeDefaults& defaults) {
  frame.rope_theta = read_theta(config, defaults.theta, "rope_theta");
  if (defaults.local_theta > 0)
    frame.local_rope_theta = read_theta(config, defaults.local_theta, "rope_local_base_freq");
  const Json scaling = config.value(kScaling), parameters = config.value(kParameters);
  const bool by_type = defaults.local_theta > 0 && is_by_type(parameters);
  if (by_type && holds_something(scaling))
    config.refuse(kScaling, "stands beside rope_parameters by type of layers: leave one of the two out");
  const std::string key = by_type ? kParameters : choose(config, scaling, parameters, defaults.theta);
  if (by_type) {
    read_by_type(parameters, config, frame, defaults, passed_over);
  } else {
    read_parameters(key == kScaling ? scaling : parameters, key, config, frame, defaults, passed_over);
  }
  check_frequencies(config, key, frame);
}

void write_rotary(const ModelFrame& frame, Json& config) {
  for (const char* key : {kScaling, kParameters, kOriginal}) config.erase(key);
  config["rope_theta"] = frame.rope_theta;
  const RotaryScaling& rule = frame.rope_scaling;
  if (rule.type == "default") return;
  Json scaling = {{"rope_type", rule.type}, {"factor", rule.factor}, {kOriginal, rule.original_positions}};
  if (rule.type == "llama3") {
    scaling["low_freq_factor"] = rule.low_frequency_factor;
    scaling["high_freq_factor"] = rule.high_frequency_factor;
  }
  if (rule.type == "longrope") {
    if (rule.factor < 1) scaling.erase("factor");  // it is then the ratio of the context lengths
    scaling["short_factor"] = rule.short_factors;
    scaling["long_factor"] = rule.long_factors;
    if (rule.attention_factor) scaling["attention_factor"] = *rule.attention_factor;
  }
  if (rule.type == "yarn") {
    scaling["beta_fast"] = rule.beta_fast;
    scaling["beta_slow"] = rule.beta_slow;
    scaling["truncate"] = rule.truncate;
    for (const auto& [key, value] : {std::pair{"attention_factor", rule.attention_factor},
                                     {"mscale", rule.mscale},
                                     {"mscale_all_dim", rule.mscale_all_dim}}) {
      if (value) scaling[key] = *value;
    }
  }
  config[kScaling] = std::move(scaling);
}

}  // namespace mla
