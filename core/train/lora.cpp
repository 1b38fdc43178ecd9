#include "core/train/lora.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <cmath>
#include <set>

#include "core/attention/adapted_weights.h"
#include "core/base/error.h"
#include "core/base/random.h"
#include "core/model/family.h"
#include "core/text/regular_expression.h"

namespace mla {
namespace {

RegularExpression map_pattern(const LoraOptions& options, const std::string& path) {
  const std::string option = path + ".maps";
  if (options.maps == "all") return {"", option};
  if (options.maps == "attention") return {"\\.self_attn\\.", option};
  if (options.maps == "feed_forward") return {"\\.mlp\\.", option};
  return {options.maps, option};
}

/// Whether the pattern names, as a whole, the matrix of which this map is a part in the family's files ("qkv_proj").
bool names_fused(const RegularExpression& pattern, const std::string& map, const std::vector<FusedMap>& fused) {
  for (const FusedMap& whole : fused) {
    for (const std::string& part : whole.parts) {
      if (!map.ends_with("." + part)) continue;
      const std::string name = map.substr(0, map.size() - part.size()) + whole.name;
      const std::string word = whole.name.substr(whole.name.rfind('.') + 1);
      const RegularExpression::Match match = pattern.search(name);
      // "up_proj" is a part of "gate_up_proj" as text alone
      if (!match.empty() && match[0].find(word) != std::string_view::npos) return true;
    }
  }
  return false;
}

/// The chosen maps of all layers.
std::vector<ModelParameter> chosen_maps(const ModelSpec& spec, const LoraOptions& options, const std::string& path) {
  const RegularExpression pattern = map_pattern(options, path);
  const std::vector<FusedMap> fused = fused_maps(spec.family);
  std::vector<ModelParameter> chosen;
  for (std::int64_t layer = 0; layer < spec.layer_count(); ++layer) {
    for (const ModelParameter& parameter : layer_parameters(spec, layer)) {
      if (!parameter.is_matrix() || parameter.count() == 0) continue;
      const std::string name = parameter.map_name();
      if (pattern.matches(name) || names_fused(pattern, name, fused)) chosen.push_back(parameter);
    }
  }
  return chosen;
}

/// The same random matrix for the same seed and name, whatever else has adapters.
at::Tensor random_down(const std::string& name, std::int64_t rank, std::int64_t columns, std::uint64_t seed) {
  RandomStream stream(seed, "lora." + name);
  const double bound = 1 / std::sqrt(static_cast<double>(columns));
  const at::Tensor down = at::empty({rank, columns}, at::kDouble);
  double* data = down.mutable_data_ptr<double>();
  for (std::int64_t i = 0; i < down.numel(); ++i) data[i] = bound * (2 * stream.uniform() - 1);
  return down;
}

}  // namespace

std::vector<std::pair<std::string, LoraSave>> enum_names(LoraSave) {
  return {{"merged", LoraSave::kMerged}, {"beside", LoraSave::kBeside}};
}

void LoraOptions::validate(const std::string& path) const {
  if (rank < 1)
    throw ConfigError(cat(path, ".rank = ", rank, ": must be at least 1; without adapters leave out ", path));
  if (!(alpha > 0) || !std::isfinite(alpha))
    throw ConfigError(cat(path, ".alpha = ", alpha, ": must be a positive number; adapters would change nothing"));
  map_pattern(*this, path);
}

void check_lora(const ModelSpec& spec, const LoraOptions& options, const std::string& path) {
  const std::vector<ModelParameter> chosen = chosen_maps(spec, options, path);
  if (chosen.empty()) {
    throw ConfigError(cat(path, ".maps: '", options.maps, "' matches no linear map of a layer; known: all, attention, ",
                          "feed_forward, or a regular expression for names such as model.layers.0.self_attn.q_proj"));
  }
  for (const ModelParameter& parameter : chosen) {
    if (!parameter.storage) continue;
    const std::string held = cat(parameter.map_name(), " is held as ", parameter.storage->description());
    if (adapters_of(parameter.storage)) {
      throw ConfigError(
          cat(path, ".maps: '", options.maps, "': ", held, ": merge those first (the pass merge_adapters)"));
    }
    if (options.save == LoraSave::kMerged) {
      throw ConfigError(cat(path, ".save = merged: ", held,
                            ", into which adapters are not merged; keep them beside, or ", "name other maps"));
    }
  }
}

std::int64_t adapter_elements(const ModelSpec& spec, const LoraOptions& options) {
  std::int64_t elements = 0;
  for (const ModelParameter& one : chosen_maps(spec, options, "lora"))
    elements += options.rank * (one.matrix().rows + one.matrix().columns);
  return elements;
}

std::string describe_lora(const ModelSpec& spec, const LoraOptions& options) {
  const std::int64_t trained = adapter_elements(spec, options);
  return cat("LoRA of rank ", options.rank, " on ", chosen_maps(spec, options, "lora").size(),
             " linear maps: ", trained, " of ", count_parameters(spec).total() + trained, " parameters are trained");
}

void add_adapters(Decoder& decoder, const LoraOptions& options, std::uint64_t seed, const std::string& path) {
  check_lora(decoder.spec(), options, path);
  std::set<std::string> names;
  for (const ModelParameter& parameter : chosen_maps(decoder.spec(), options, path)) names.insert(parameter.map_name());
  decoder.replace_maps([&](const std::string& name, Linear& map) {
    if (!names.contains(name)) return;
    // Of the type that its matrix has; beside codes, that of the arithmetic.
    const at::TensorOptions like = map.storage() ? decoder.options() : map.options();
    const at::Tensor down = random_down(name, options.rank, map.columns(), seed).to(like);
    map = with_adapters(map, {options.rank, options.alpha}, down);
  });
}

void merge_adapters(Decoder& decoder) {
  const at::NoGradGuard off;
  decoder.replace_maps([](const std::string&, Linear& map) {
    if (adapters_of(map.storage())) map = without_adapters(map);
  });
}

}  // namespace mla
