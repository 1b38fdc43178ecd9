#include "core/model/model_spec.h"

#include <algorithm>
#include <utility>

#include "core/attention/adapted_weights.h"
#include "core/attention/grouped_query.h"
#include "core/base/error.h"
#include "core/base/json.h"

namespace mla {
namespace {

/// The nearest layer before `reader` that provides `slot`, or nothing.
std::optional<std::size_t> provider_of(const ModelSpec& spec, std::size_t reader, const std::string& slot) {
  for (std::size_t i = reader; i-- > 0;) {
    const std::vector<std::string> provided = spec.layers[i].attention->provides();
    if (std::find(provided.begin(), provided.end(), slot) != provided.end()) return i;
  }
  return {};
}

std::shared_ptr<const WeightStorage> storage_in(const StorageMap& storage, const std::string& name) {
  const auto found = storage.find(name);
  return found == storage.end() ? nullptr : found->second.form;
}

std::string layer_prefix(std::size_t layer) { return cat("model.layers.", layer, "."); }

}  // namespace

bool LayerSpec::operator==(const LayerSpec& other) const {
  return feed_forward == other.feed_forward && source_layer == other.source_layer && *attention == *other.attention &&
         storage == other.storage;
}

BlockNorms block_norms(NormPlacement placement) {
  constexpr const char *kInput = "input_layernorm", *kMiddle = "post_attention_layernorm",
                       *kLast = "post_feedforward_layernorm";
  if (placement == NormPlacement::kBefore) return {.before_attention = kInput, .before_mlp = kMiddle};
  if (placement == NormPlacement::kAfter) return {.after_attention = kMiddle, .after_mlp = kLast};
  return {kInput, kMiddle, "pre_feedforward_layernorm", kLast};
}

ModelSpec UniformModel::spec() const {
  ModelSpec spec = model;
  std::shared_ptr<const AttentionSpec> attention;
  std::optional<HeadFields> last;
  for (std::int64_t layer = 0; layer < layers; ++layer) {
    HeadFields own = heads;
    own.window = windows.empty() ? 0 : windows.at(static_cast<std::size_t>(layer));
    if (!ropes.empty()) own.rope = ropes.at(static_cast<std::size_t>(layer));
    if (last != own) attention = std::make_shared<GroupedQuerySpec>(own);
    last = own;
    spec.layers.push_back({attention, feed_forward, layer});
  }
  return spec;
}

UniformModel as_uniform(const ModelSpec& spec) {
  expects(!spec.layers.empty(), "a model has layers");
  UniformModel uniform{spec, {}, spec.layers.front().feed_forward, spec.layer_count(), {}};
  bool turns_alike = true;
  uniform.model.layers.clear();
  uniform.model.storage.clear();
  bool any = false;
  for (const LayerSpec& layer : spec.layers) {
    const std::optional<HeadFields> heads = layer.attention->heads();
    if (heads && uniform.heads.heads == 0) uniform.heads = *heads;
    uniform.windows.push_back(heads ? heads->window : 0);
    any = any || uniform.windows.back() > 0;
    uniform.ropes.push_back(rope_use(*layer.attention));
    turns_alike = turns_alike && uniform.ropes.back() == RopeUse::kModel;
  }
  uniform.heads.window = 0;
  uniform.heads.rope = RopeUse::kModel;
  if (!any) uniform.windows.clear();
  if (turns_alike) uniform.ropes.clear();
  return uniform;
}

std::vector<ModelParameter> layer_parameters(const ModelSpec& spec, std::int64_t layer) {
  const LayerSpec& block = spec.layers.at(static_cast<std::size_t>(layer));
  const std::string prefix = cat("model.layers.", layer, ".");
  std::vector<ModelParameter> all;
  const BlockNorms norms = block_norms(spec.norms);
  const auto norm = [&](const char* name) {
    if (name == nullptr) return;
    all.push_back({{prefix + name + ".weight", {spec.hidden}, ParameterRole::kNorm, {}}, ParameterGroup::kNorms});
  };
  norm(norms.before_attention);
  for (Parameter& parameter : block.attention->parameters(spec)) {
    const bool is_norm = parameter.role == ParameterRole::kNorm;
    parameter.name = prefix + "self_attn." + parameter.name;
    all.push_back({std::move(parameter), is_norm ? ParameterGroup::kNorms : ParameterGroup::kAttention});
  }
  norm(norms.after_attention);
  norm(norms.before_mlp);
  std::vector<Parameter> mlp;
  const FeedForwardSpec& feed = block.feed_forward;
  add_projection(mlp, prefix + "mlp.gate_proj", feed.width, spec.hidden, feed.bias, Tap::kFeedForwardInput);
  add_projection(mlp, prefix + "mlp.up_proj", feed.width, spec.hidden, feed.bias, Tap::kFeedForwardInput);
  add_projection(mlp, prefix + "mlp.down_proj", spec.hidden, feed.width, feed.bias, Tap::kFeedForwardInner,
                 ParameterRole::kResidual);
  for (Parameter& parameter : mlp) all.push_back({std::move(parameter), ParameterGroup::kFeedForward});
  norm(norms.after_mlp);
  for (ModelParameter& parameter : all) {
    if (parameter.is_matrix())
      parameter.storage = storage_in(block.storage, parameter.map_name().substr(prefix.size()));
  }
  return all;
}

ModelParameter embedding_parameter(const ModelSpec& spec) {
  return {{"model.embed_tokens.weight", {spec.vocabulary, spec.hidden}, ParameterRole::kWeight, {}},
          ParameterGroup::kEmbedding,
          storage_in(spec.storage, "model.embed_tokens")};
}

ModelParameter output_parameter(const ModelSpec& spec) {
  return {{"lm_head.weight", {spec.vocabulary, spec.hidden}, ParameterRole::kWeight, Tap::kFinalState},
          ParameterGroup::kOutput,
          storage_in(spec.storage, "lm_head")};
}

std::vector<ModelParameter> model_parameters(const ModelSpec& spec) {
  std::vector<ModelParameter> all = {embedding_parameter(spec)};
  for (std::int64_t layer = 0; layer < spec.layer_count(); ++layer) {
    for (ModelParameter& parameter : layer_parameters(spec, layer)) all.push_back(std::move(parameter));
  }
  all.push_back({{"model.norm.weight", {spec.hidden}, ParameterRole::kNorm, {}}, ParameterGroup::kNorms});
  if (!spec.tied_embeddings) all.push_back(output_parameter(spec));
  return all;
}

ParameterCount count_parameters(const ModelSpec& spec) {
  ParameterCount count;
  for (const ModelParameter& parameter : model_parameters(spec)) {
    std::int64_t& sum = parameter.group == ParameterGroup::kEmbedding     ? count.embedding
                        : parameter.group == ParameterGroup::kAttention   ? count.attention
                        : parameter.group == ParameterGroup::kFeedForward ? count.mlp
                        : parameter.group == ParameterGroup::kNorms       ? count.norms
                                                                          : count.output;
    sum += parameter.count();
  }
  return count;
}

StorageMap model_storage(const ModelSpec& spec) {
  StorageMap all = spec.storage;
  for (std::size_t i = 0; i < spec.layers.size(); ++i) {
    for (const auto& [name, storage] : spec.layers[i].storage) all[layer_prefix(i) + name] = storage;
  }
  return all;
}

void set_storage(ModelSpec& spec, const std::string& name, std::shared_ptr<const WeightStorage> storage) {
  StorageMap* map = &spec.storage;
  std::string own = name;
  for (std::size_t i = 0; i < spec.layers.size(); ++i) {
    const std::string prefix = layer_prefix(i);
    if (!name.starts_with(prefix)) continue;
    map = &spec.layers[i].storage;
    own = name.substr(prefix.size());
  }
  if (storage) {
    (*map)[own] = {std::move(storage)};
  } else {
    map->erase(own);
  }
}

void check_storage(const ModelSpec& spec, const std::string& where) {
  StorageMap unknown = model_storage(spec);
  if (unknown.empty()) return;
  for (const ModelParameter& parameter : model_parameters(spec)) {
    if (!parameter.storage) continue;
    const std::string own = cat(where, ": ", parameter.map_name());
    const bool table = parameter.group == ParameterGroup::kEmbedding || parameter.group == ParameterGroup::kOutput;
    if (table && parameter.storage->is_factored())
      throw ConfigError(cat(own, ": embedding and output matrix are not held as factors"));
    parameter.storage->check(parameter.matrix(), own);
    unknown.erase(parameter.map_name());
  }
  if (!unknown.empty())
    throw ConfigError(cat(where, ": ", brief_text(unknown.begin()->first), " is no linear map of the model"));
}

namespace {

void expect_no_other_storage(const ModelSpec& spec, std::int64_t layer, const std::string& prefix,
                             const std::string& path, bool convertible) {
  for (const auto& [name, storage] : spec.layers.at(static_cast<std::size_t>(layer)).storage) {
    if (!name.starts_with(prefix) || (convertible && storage.form->is_converted_from())) continue;
    throw ConfigError(cat(path, ": ", name, " of layer ", layer, " is held as ", storage.form->description(),
                          ", and this pass computes with dense matrices: ",
                          storage.form->is_converted_from() ? "hold the source's weights dense"
                          : adapters_of(storage.form)       ? "let merge_adapters come before it"
                                                            : "let it come before quantize_weights"));
  }
}

}  // namespace

void expect_dense(const ModelSpec& spec, std::int64_t layer, const std::string& prefix, const std::string& path) {
  expect_no_other_storage(spec, layer, prefix, path, false);
}

void expect_convertible(const ModelSpec& spec, std::int64_t layer, const std::string& prefix, const std::string& path) {
  expect_no_other_storage(spec, layer, prefix, path, true);
}

std::int64_t cached_elements(const AttentionSpec& attention) { return elements_per_token(attention.streams()); }

std::int64_t cached_elements(const ModelSpec& spec) {
  std::int64_t total = 0;
  for (const LayerSpec& layer : spec.layers) total += cached_elements(*layer.attention);
  return total;
}

void check_spec(const ModelSpec& spec, const std::string& where) {
  for (std::size_t i = 0; i < spec.layers.size(); ++i) {
    const AttentionSpec& attention = *spec.layers[i].attention;
    const std::string layer = cat(where, "[", i, "]");
    attention.check(spec, layer);
    for (const std::string& slot : attention.reads()) {
      const auto provider = provider_of(spec, i, slot);
      if (!provider) throw ConfigError(cat(layer, ": reads the ", slot, " of a layer before it, and none has any"));
      const auto own = attention.heads(), theirs = spec.layers[*provider].attention->heads();
      if (own && theirs && own->heads != theirs->heads) {
        throw ConfigError(cat(layer, ".heads = ", own->heads, ": layer ", *provider, ", whose ", slot,
                              " it reads, has ", theirs->heads));
      }
    }
  }
}

std::vector<std::vector<std::string>> wanted_slots(const ModelSpec& spec) {
  std::vector<std::vector<std::string>> wanted(spec.layers.size());
  for (std::size_t i = 0; i < spec.layers.size(); ++i) {
    for (const std::string& slot : spec.layers[i].attention->reads()) {
      const auto provider = provider_of(spec, i, slot);
      if (!provider) continue;
      std::vector<std::string>& slots = wanted[*provider];
      if (std::find(slots.begin(), slots.end(), slot) == slots.end()) slots.push_back(slot);
    }
  }
  return wanted;
}

std::vector<std::size_t> group_boundaries(const ModelSpec& spec) {
  std::vector<bool> begins(spec.layers.size(), true);
  for (std::size_t i = 0; i < spec.layers.size(); ++i) {
    for (const std::string& slot : spec.layers[i].attention->reads()) {
      const std::size_t first = provider_of(spec, i, slot).value_or(i);
      for (std::size_t k = first + 1; k <= i; ++k) begins[k] = false;
    }
  }
  std::vector<std::size_t> boundaries;
  for (std::size_t i = 0; i < begins.size(); ++i) {
    if (begins[i]) boundaries.push_back(i);
  }
  boundaries.push_back(spec.layers.size());
  return boundaries;
}

}  // namespace mla
