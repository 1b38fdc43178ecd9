#include "core/model/gguf_rope.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "core/attention/rotary.h"
#include "core/base/error.h"
#include "core/base/suggest.h"
#include "core/model/gguf_config.h"

namespace mla {
namespace {

constexpr double kDefaultGgufTheta = 10000;
/// Factors are stored in float32, computed from frequencies in float32.
constexpr double kFactorTolerance = 1e-4;

/// The factor by which positions are stretched; 0 stands for none, as in llama.cpp.
double scaling_factor(ConfigReader& keys, const std::string& prefix) {
  const double older = keys.number_or(prefix + "rope.scale_linear", 0);
  const double factor = keys.number_or(prefix + "rope.scaling.factor", older);
  return factor == 0 ? 1 : factor;
}

Json yarn_scaling(ConfigReader& keys, const std::string& prefix, double factor) {
  const std::string scaling = prefix + "rope.scaling.";
  for (const char* key : {"attn_factor", "yarn_attn_factor", "yarn_ext_factor"})
    keys.require(scaling + key, 1.0, "not supported but as 1");
  keys.require(scaling + "yarn_log_multiplier", 0.0, "not supported but as 0");
  Json rule = {{"rope_type", "yarn"}, {"factor", factor}};
  if (keys.has(scaling + "original_context_length"))
    rule["original_max_position_embeddings"] = keys.integer(scaling + "original_context_length");
  rule["beta_fast"] = keys.number_or(scaling + "yarn_beta_fast", 32);
  rule["beta_slow"] = keys.number_or(scaling + "yarn_beta_slow", 1);
  return rule;
}

Json scaling_of_keys(ConfigReader& keys, const std::string& prefix) {
  const std::string type_key = prefix + "rope.scaling.type";
  const std::string type = keys.string_or(type_key, "linear");
  const double factor = scaling_factor(keys, prefix);
  const std::vector<std::string> known = {"none", "linear", "yarn"};
  if (std::find(known.begin(), known.end(), type) == known.end())
    keys.refuse(type_key, "not supported; known: " + join(known));
  if (type == "yarn") return yarn_scaling(keys, prefix, factor);
  keys.value(prefix + "rope.scaling.original_context_length");  // of no effect without yarn
  if (type == "none" || factor == 1) return {};
  return {{"rope_type", "linear"}, {"factor", factor}};
}

/// The frequencies that the factors leave, [head_dim / 2].
std::vector<double> stated_frequencies(const gguf::Tensor& tensor, const Rotary& plain, std::int64_t length,
                                       const std::string& where) {
  const at::Tensor frequencies = plain.frequencies(length).contiguous();
  if (tensor.count() != frequencies.numel() || !tensor.type->floating_point) {
    throw DataError(
        cat(where, ": expected ", frequencies.numel(), " factors, found ", tensor.count(), " of ", tensor.type->name));
  }
  std::vector<float> factors(static_cast<std::size_t>(tensor.count()));
  gguf::dequantize(*tensor.type, tensor.data, tensor.count(), factors.data());
  std::vector<double> stated;
  for (std::size_t i = 0; i < factors.size(); ++i) {
    if (!(factors[i] > 0 && std::isfinite(factors[i])))
      throw DataError(cat(where, "[", i, "] = ", factors[i], ": must be greater than 0"));
    stated.push_back(frequencies.const_data_ptr<double>()[i] / static_cast<double>(factors[i]));
  }
  return stated;
}

bool gives(const Rotary& rotary, std::int64_t length, const std::vector<double>& stated) {
  const at::Tensor frequencies = rotary.frequencies(length).contiguous();
  for (std::size_t i = 0; i < stated.size(); ++i) {
    if (!(std::abs(frequencies.const_data_ptr<double>()[i] / stated[i] - 1) < kFactorTolerance)) return false;
  }
  return true;
}

/// The rule of Llama 3 whose frequencies the factors give: 1 and 4 as all its models have them, by the largest factor,
/// from one of the usual lengths. Null where all factors are 1.
Json scaling_of_factors(const gguf::Tensor& tensor, const Json& config, const std::string& where) {
  const double theta = config["rope_theta"];
  const std::int64_t head_dim = config["head_dim"], length = config["max_position_embeddings"];
  if (head_dim % 2 != 0) return {};  // refused with the heads
  const Rotary plain(theta, head_dim, length, {});
  const std::vector<double> stated = stated_frequencies(tensor, plain, length, where);
  if (gives(plain, length, stated)) return {};
  RotaryScaling rule;
  rule.type = "llama3";
  rule.factor = plain.frequencies(length)[-1].item<double>() / stated.back();
  rule.factor = std::round(rule.factor * 1000) / 1000;
  for (rule.original_positions = 512; rule.original_positions <= 1 << 20; rule.original_positions *= 2) {
    if (!(rule.factor >= 1) || !gives(Rotary(theta, head_dim, length, rule), length, stated)) continue;
    return {{"rope_type", rule.type},
            {"factor", rule.factor},
            {"low_freq_factor", rule.low_frequency_factor},
            {"high_freq_factor", rule.high_frequency_factor},
            {"original_max_position_embeddings", rule.original_positions}};
  }
  throw DataError(cat(where,
                      ": these factors of rotation frequencies are not those of Llama 3's rule (low 1, high 4, from "
                      "512 to 1,048,576 positions), the only one that is read"));
}

}  // namespace

void add_gguf_rope(ConfigReader& keys, const std::string& prefix, const gguf::File& file, Json& config) {
  const double theta = keys.number_or(prefix + "rope.freq_base", kDefaultGgufTheta);
  config["rope_theta"] = theta;
  if (!(theta > 1)) keys.refuse(prefix + "rope.freq_base", "must be greater than 1");
  Json scaling = scaling_of_keys(keys, prefix);
  for (const gguf::Tensor& tensor : file.tensors()) {
    if (tensor.name != kGgufRopeFactors) continue;
    const std::string where = cat(file.path().string(), ": tensor ", tensor.name);
    if (!scaling.is_null()) throw DataError(cat(where, ": stands beside another scaling, ", brief(scaling)));
    scaling = scaling_of_factors(tensor, config, where);
  }
  if (!scaling.is_null()) config["rope_scaling"] = std::move(scaling);
}

}  // namespace mla
