#include "core/model/rope_config.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "core/base/error.h"
#include "core/base/log.h"
#include "core/base/suggest.h"

namespace mla {
namespace {

constexpr double kDefaultTheta = 10000;
/// Beyond it, or below its inverse, attention overflows or sees no differences.
constexpr double kMostScale = 1e6;
constexpr const char* kScaling = "rope_scaling";
constexpr const char* kParameters = "rope_parameters";
constexpr const char* kOriginal = "original_max_position_embeddings";

/// A base of 1 or less gives no falling sequence of frequencies; yarn takes its logarithm.
double read_theta(ConfigReader& reader, double otherwise) {
  reader.refuse_null("rope_theta");
  const double theta = reader.number_or("rope_theta", otherwise);
  if (!(theta > 1)) reader.refuse("rope_theta", "must be greater than 1");
  return theta;
}

double positive_or(ConfigReader& reader, const char* key, double otherwise) {
  const double value = reader.number_or(key, otherwise);
  if (!(value > 0)) reader.refuse(key, "must be greater than 0");
  return value;
}

std::string read_type(ConfigReader& scaling) {
  scaling.refuse_null("rope_type");
  scaling.refuse_null("type");
  const std::string old_name = scaling.string_or("type", "default");
  const std::string type = scaling.string_or("rope_type", old_name);
  if (scaling.has("type") && type != old_name)
    scaling.refuse("type", cat("contradicts rope_type = ", brief_text(type)));
  const std::vector<std::string> known = {"default", "linear", "dynamic", "llama3", "yarn"};
  if (std::find(known.begin(), known.end(), type) == known.end()) {
    scaling.refuse(scaling.has("rope_type") ? "rope_type" : "type", "not supported; known: " + join(known));
  }
  return type;
}

/// `factor` of a scaled type; yarn takes null for the ratio of the context lengths.
double read_factor(ConfigReader& scaling, const std::string& type, double ratio) {
  if (type == "yarn" && scaling.is_null("factor")) {
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

/// `above` is the config.json that `scaling` is a part of: Phi-3's style has the original length there.
RotaryScaling read_scaling(ConfigReader& scaling, ConfigReader& above, const ModelFrame& frame) {
  RotaryScaling rule;
  rule.type = read_type(scaling);
  scaling.require("partial_rotary_factor", 1.0, "only 1 is supported");
  if (rule.type == "default") {
    scaling.require("factor", 1, "has no effect without a rope_type such as linear, dynamic or yarn");
    scaling.value(kOriginal);
    return rule;
  }
  const bool has_original = rule.type == "llama3" || rule.type == "yarn";
  ConfigReader& place = has_original && above.has(kOriginal) ? above : scaling;
  if (rule.type == "llama3" && !place.has(kOriginal)) scaling.refuse(kOriginal, "needed for llama3");
  rule.original_positions = place.size_or(kOriginal, frame.max_positions, kMostPositions);
  scaling.value(kOriginal);
  const double ratio = static_cast<double>(frame.max_positions) / static_cast<double>(rule.original_positions);
  rule.factor = read_factor(scaling, rule.type, ratio);
  if (rule.type == "dynamic" && frame.rope_dim == 2)
    scaling.refuse(scaling.has("rope_type") ? "rope_type" : "type", "needs heads of more than 2 dims");
  if (rule.type == "llama3") read_llama3(scaling, rule);
  if (rule.type == "yarn") read_yarn(scaling, rule);
  return rule;
}

bool holds_something(const Json& value) { return !value.is_null() && !(value.is_object() && value.empty()); }

/// Which of the two keys counts: rope_scaling, unless it is empty.
const char* choose(ConfigReader& config, const Json& scaling, const Json& parameters) {
  for (const auto& [key, value] : {std::pair{kScaling, &scaling}, {kParameters, &parameters}}) {
    if (!value->is_null() && !value->is_object()) config.refuse(key, "must be an object");
  }
  if (!holds_something(scaling)) return kParameters;
  if (holds_something(parameters) && parameters != scaling) {
    const double theta = scaling.contains("rope_theta") ? ConfigReader(scaling, "").number_or("rope_theta", 0)
                                                        : config.number_or("rope_theta", kDefaultTheta);
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
  const at::Tensor frequencies = rotary.frequencies(frame.max_positions);
  const bool fine = at::isfinite(frequencies).all().item<bool>() && frequencies.ge(0).all().item<bool>();
  if (!fine) config.refuse(key, "gives rotation frequencies that are not finite");
  if (!(rotary.logit_scale() > 1 / kMostScale && rotary.logit_scale() < kMostScale))
    config.refuse(key, cat("scales the logits of attention by ", rotary.logit_scale(), ", which nothing is left of"));
}

}  // namespace

void read_rotary(ConfigReader& config, ModelFrame& frame,
                 std::vector<std::pair<std::string, std::string>>* passed_over) {
  frame.rope_theta = read_theta(config, kDefaultTheta);
  const Json scaling = config.value(kScaling), parameters = config.value(kParameters);
  const std::string key = choose(config, scaling, parameters);
  const Json& chosen = key == kScaling ? scaling : parameters;
  if (!chosen.is_null()) {
    ConfigReader reader(chosen, config.name() + ": " + key, harmless_rope_reason);
    frame.rope_theta = read_theta(reader, frame.rope_theta);
    frame.rope_scaling = read_scaling(reader, config, frame);
    reader.finish();
    for (const auto& [inner, reason] : reader.passed_over()) {
      if (passed_over) passed_over->emplace_back(key + "." + inner, reason);
    }
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
