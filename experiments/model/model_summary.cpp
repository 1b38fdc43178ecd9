#include "experiments/model/model_summary.h"

#include <ATen/ATen.h>

#include <iomanip>

#include "core/base/error.h"
#include "core/gguf/file.h"
#include "core/model/gguf_config.h"
#include "core/model/gguf_weights.h"
#include "core/model/model_config.h"
#include "experiments/cli/table.h"
#include "experiments/model/dtype.h"

namespace mla {
namespace {

LayerSummary summarize_layer(const ModelSpec& spec, std::size_t index) {
  const AttentionSpec& attention = *spec.layers[index].attention;
  LayerSummary layer;
  layer.layer = static_cast<std::int64_t>(index);
  layer.attention = attention.kind();
  layer.source_layer = spec.layers[index].source_layer;
  layer.pairs = attention.rotated_pairs();
  layer.latent_width = attention.latent_width();
  layer.window = attention.heads().value_or(HeadFields()).window;
  layer.cached_elements = cached_elements(attention);
  return layer;
}

/// What only some families have, by names and in words for people and files alike.
std::vector<std::pair<std::string, Json>> unusual_traits(const UniformModel& uniform) {
  const ModelSpec& spec = uniform.model;
  std::vector<std::pair<std::string, Json>> traits;
  const auto add = [&](bool there, const char* name, Json value) {
    if (there) traits.emplace_back(name, std::move(value));
  };
  Json still = Json::array(), local = Json::array();
  for (std::size_t layer = 0; layer < uniform.ropes.size(); ++layer) {
    if (uniform.ropes[layer] == RopeUse::kNone) still.push_back(layer);
    if (uniform.ropes[layer] == RopeUse::kLocal) local.push_back(layer);
  }
  add(!still.empty(), "no_rope_layers", still);
  add(!local.empty(), "local_layers", local);
  add(spec.local_rope_theta > 0, "local_theta", spec.local_rope_theta);
  add(uniform.heads.qk_norm_whole, "qk_norm_whole", true);
  add(spec.norms == NormPlacement::kAfter, "norms", "after");
  add(spec.norms == NormPlacement::kBoth, "norms", "before and after");
  add(spec.norms_add_one, "norm_weights", "1 + w");
  add(uniform.feed_forward.activation == Activation::kGeluTanh, "activation", "gelu_pytorch_tanh");
  add(spec.embedding_scale != 1, "embedding_scale", spec.embedding_scale);
  add(uniform.heads.query_scalar > 0, "query_scalar", uniform.heads.query_scalar);
  add(uniform.heads.soft_cap > 0, "attention_cap", uniform.heads.soft_cap);
  add(spec.logit_cap > 0, "logit_cap", spec.logit_cap);
  return traits;
}

/// Sizes as published models state them: heads and feed-forward width are those of the first layer.
Json geometry_json(const ModelSpec& spec) {
  const UniformModel uniform = as_uniform(spec);
  const HeadFields& heads = uniform.heads;
  Json windows = Json::array();
  for (std::int64_t window : uniform.windows) windows.push_back(window);
  Json scaling = {{"type", spec.rope_scaling.type}};
  if (spec.rope_scaling.type != "default") scaling["factor"] = spec.rope_scaling.factor;
  Json geometry = {{"vocabulary", spec.vocabulary},
                   {"hidden", spec.hidden},
                   {"intermediate", uniform.feed_forward.width},
                   {"layers", uniform.layers},
                   {"heads", heads.heads},
                   {"kv_heads", heads.kv_heads},
                   {"head_dim", heads.head_dim},
                   {"context", spec.max_positions},
                   {"norm_epsilon", spec.norm_epsilon},
                   {"rope_theta", spec.rope_theta},
                   {"rope_scaling", scaling},
                   {"tied_embeddings", spec.tied_embeddings},
                   {"query_bias", heads.query_bias},
                   {"key_bias", heads.key_bias},
                   {"value_bias", heads.value_bias},
                   {"output_bias", heads.output_bias},
                   {"mlp_bias", uniform.feed_forward.bias},
                   {"qk_norm", heads.qk_norm},
                   {"windows", windows}};
  for (const auto& [name, value] : unusual_traits(uniform)) geometry[name] = value;
  return geometry;
}

Json parameters_json(const ParameterCount& count) {
  return {{"total", count.total()}, {"embedding", count.embedding}, {"attention", count.attention},
          {"mlp", count.mlp},       {"norms", count.norms},         {"output", count.output}};
}

double ratio(const ModelSummary& summary) {
  return static_cast<double>(summary.cached_elements()) / static_cast<double>(summary.source_cached_elements());
}

std::string bias_names(const UniformModel& model) {
  std::string names;
  const auto add = [&](bool present, const char* name) {
    if (present) names += (names.empty() ? "" : ", ") + std::string(name);
  };
  add(model.heads.query_bias, "query");
  add(model.heads.key_bias, "key");
  add(model.heads.value_bias, "value");
  add(model.heads.output_bias, "output");
  add(model.feed_forward.bias, "mlp");
  return names.empty() ? "none" : names;
}

/// A quantized file's own types: weights are float32 once they are read.
std::string weights_dtype(const Checkpoint& checkpoint) {
  if (gguf::is_gguf(checkpoint.source)) return gguf_types(gguf::File(checkpoint.source));
  return dtype_name(checkpoint.decoder.embedding.scalar_type());
}

void print_geometry(const ModelSummary& summary, std::ostream& out) {
  const ModelSpec& g = summary.spec;
  const UniformModel uniform = as_uniform(g);
  const HeadFields& heads = uniform.heads;
  const bool scaled = g.rope_scaling.type != "default";
  out << summary.model << '\n'
      << "  family          " << g.family << ", " << uniform.layers << " layers, weights in " << summary.weights_dtype
      << '\n'
      << "  sizes           vocabulary " << g.vocabulary << ", hidden " << g.hidden << ", intermediate "
      << uniform.feed_forward.width << ", context " << g.max_positions << '\n'
      << "  heads           " << heads.heads << " query, " << heads.kv_heads << " key/value, head_dim "
      << heads.head_dim << '\n'
      << "  rope            theta " << rounded(g.rope_theta) << ", scaling " << g.rope_scaling.type
      << (scaled ? " by " + rounded(g.rope_scaling.factor) : "") << '\n'
      << "  embeddings      " << (g.tied_embeddings ? "tied" : "untied") << '\n'
      << "  biases          " << bias_names(uniform) << '\n'
      << "  qk-norm         " << (heads.qk_norm ? "yes" : "no") << '\n';
  for (const auto& [name, value] : unusual_traits(uniform))
    out << "  " << std::left << std::setw(16) << name << std::right
        << (value.is_string() ? value.get<std::string>() : value.dump()) << '\n';
  out << '\n';
}

void print_parameters(const ModelSummary& summary, std::ostream& out) {
  Table table({"parameters", "count", "source"});
  const Json now = parameters_json(summary.parameters), source = parameters_json(summary.source_parameters);
  for (const auto& [group, count] : now.items()) {
    table.add({group, grouped(count.get<std::int64_t>()), grouped(source[group].get<std::int64_t>())});
  }
  table.print(out);
  out << '\n';
}

/// The first layer after `first` that differs from it.
std::size_t end_of_run(const std::vector<LayerSummary>& layers, std::size_t first) {
  const auto key = [](const LayerSummary& l) {
    return std::tuple(l.layer - l.source_layer, l.attention, l.pairs, l.latent_width, l.window, l.cached_elements);
  };
  std::size_t end = first;
  while (end < layers.size() && key(layers[end]) == key(layers[first])) ++end;
  return end;
}

void print_layers(const ModelSummary& summary, at::ScalarType dtype, std::ostream& out) {
  const auto size = static_cast<std::int64_t>(c10::elementSize(dtype));
  Table table({"layers", "attention", "pairs", "latent width", "window", "elements/token", "bytes/token"});
  for (std::size_t i = 0; i < summary.layers.size();) {
    const LayerSummary& layer = summary.layers[i];
    const std::size_t end = end_of_run(summary.layers, i);
    table.add({end == i + 1 ? cat(i) : cat(i, "-", end - 1), layer.attention, cat(layer.pairs),
               layer.latent_width ? cat(*layer.latent_width) : "", layer.window > 0 ? cat(layer.window) : "",
               grouped(layer.cached_elements), grouped(layer.cached_elements * size)});
    i = end;
  }
  table.print(out);
  const std::int64_t elements = summary.cached_elements();
  out << "\ncache, all layers: " << grouped(elements) << " elements, " << grouped(elements * size) << " bytes ("
      << dtype_name(dtype) << ") per token; " << rounded(100 * ratio(summary), 4) << " % of the "
      << grouped(summary.source_cached_elements()) << " elements of an unconverted model\n";
}

void print_passed_over(const ModelSummary& summary, std::ostream& out) {
  if (summary.passed_over.empty()) return;
  Table table(
      {gguf::is_gguf(summary.model) ? "key of the metadata" : "key of config.json", "has no effect here, as it"});
  for (const auto& [key, reason] : summary.passed_over) table.add({brief_text(key), reason});
  out << '\n';
  table.print(out);
  out << '\n';
}

}  // namespace

std::int64_t ModelSummary::cached_elements() const { return mla::cached_elements(spec); }

std::int64_t ModelSummary::source_cached_elements() const { return mla::cached_elements(as_uniform(spec).spec()); }

ModelSummary summarize_model(const Checkpoint& checkpoint) {
  ModelSummary summary;
  summary.model = checkpoint.source.string();
  summary.spec = checkpoint.decoder.spec();
  summary.weights_dtype = weights_dtype(checkpoint);
  summary.parameters = count_parameters(summary.spec);
  summary.source_parameters = count_parameters(as_uniform(summary.spec).spec());
  for (std::size_t i = 0; i < summary.spec.layers.size(); ++i)
    summary.layers.push_back(summarize_layer(summary.spec, i));
  for (const auto& [name, storage] : model_storage(summary.spec)) ++summary.storage[storage.form->description()];
  if (gguf::is_gguf(checkpoint.source)) {
    summary.passed_over = passed_over_gguf_keys(gguf::File(checkpoint.source));
  } else if (std::filesystem::is_directory(checkpoint.source)) {
    summary.passed_over = passed_over_model_keys(checkpoint.config, summary.model);
  }
  return summary;
}

Json to_json(const ModelSummary& summary, at::ScalarType cache_dtype) {
  const auto size = static_cast<std::int64_t>(c10::elementSize(cache_dtype));
  Json layers = Json::array(), keys = Json::object();
  for (const auto& [key, reason] : summary.passed_over) keys[key] = reason;
  for (const LayerSummary& layer : summary.layers) {
    layers.push_back({{"layer", layer.layer},
                      {"source_layer", layer.source_layer},
                      {"attention", layer.attention},
                      {"pairs", layer.pairs},
                      {"latent_width", layer.latent_width ? Json(*layer.latent_width) : Json()},
                      {"window", layer.window},
                      {"cached_elements_per_token", layer.cached_elements},
                      {"cached_bytes_per_token", layer.cached_elements * size}});
  }
  return {{"model", summary.model},
          {"family", summary.spec.family},
          {"weights_dtype", summary.weights_dtype},
          {"geometry", geometry_json(summary.spec)},
          {"parameters", parameters_json(summary.parameters)},
          {"source_parameters", parameters_json(summary.source_parameters)},
          {"layers", layers},
          {"weight_storage", summary.storage},
          {"ignored_config_keys", keys},
          {"cache_dtype", dtype_name(cache_dtype)},
          {"cached_elements_per_token", summary.cached_elements()},
          {"cached_bytes_per_token", summary.cached_elements() * size},
          {"source_cached_elements_per_token", summary.source_cached_elements()},
          {"cache_ratio", ratio(summary)}};
}

void print(const ModelSummary& summary, at::ScalarType cache_dtype, std::ostream& out) {
  print_geometry(summary, out);
  print_parameters(summary, out);
  print_layers(summary, cache_dtype, out);
  for (const auto& [form, maps] : summary.storage) out << "weights of " << maps << " linear maps: " << form << '\n';
  print_passed_over(summary, out);
}

}  // namespace mla
