#include "experiments/model/model_summary.h"

#include <ATen/ATen.h>

#include "core/attention/latent.h"
#include "core/base/error.h"
#include "core/model/family.h"
#include "core/model/latent_config.h"
#include "experiments/cli/table.h"
#include "experiments/model/dtype.h"

namespace mla {
namespace {

std::int64_t& group_of(const std::string& name, ParameterCount& count) {
  const auto has = [&](const char* part) { return name.find(part) != std::string::npos; };
  if (has("norm")) return count.norms;
  if (has("embed_tokens")) return count.embedding;
  if (has("lm_head")) return count.output;
  return has(".self_attn.") ? count.attention : count.mlp;
}

LayerSummary summarize_layer(const Decoder& decoder, std::size_t index) {
  const Attention& attention = *decoder.layers[index].attention;
  LayerSummary layer;
  layer.layer = static_cast<std::int64_t>(index);
  layer.attention = "grouped_query";
  layer.pairs = decoder.geometry.head_dim / 2;
  layer.window = decoder.geometry.attention(layer.layer).window;
  layer.cached_elements = elements_per_token(attention.cache_streams());
  if (const auto* latent = dynamic_cast<const LatentAttention*>(&attention)) {
    layer.attention = "latent";
    layer.pairs = latent->layout().rope_width() / 2;
    layer.latent_width = latent->layout().latent_width;
  }
  return layer;
}

Json geometry_json(const Geometry& g) {
  Json windows = Json::array();
  for (std::int64_t window : g.windows) windows.push_back(window);
  Json scaling = {{"type", g.rope_scaling.type}};
  if (g.rope_scaling.type != "default") scaling["factor"] = g.rope_scaling.factor;
  return {{"vocabulary", g.vocabulary},
          {"hidden", g.hidden},
          {"intermediate", g.intermediate},
          {"layers", g.layers},
          {"heads", g.heads},
          {"kv_heads", g.kv_heads},
          {"head_dim", g.head_dim},
          {"context", g.max_positions},
          {"norm_epsilon", g.norm_epsilon},
          {"rope_theta", g.rope_theta},
          {"rope_scaling", scaling},
          {"tied_embeddings", g.tied_embeddings},
          {"query_bias", g.query_bias},
          {"key_bias", g.key_bias},
          {"value_bias", g.value_bias},
          {"output_bias", g.output_bias},
          {"mlp_bias", g.mlp_bias},
          {"qk_norm", g.qk_norm},
          {"windows", windows}};
}

Json parameters_json(const ParameterCount& count) {
  return {{"total", count.total()}, {"embedding", count.embedding}, {"attention", count.attention},
          {"mlp", count.mlp},       {"norms", count.norms},         {"output", count.output}};
}

double ratio(const ModelSummary& summary) {
  return static_cast<double>(summary.cached_elements()) / static_cast<double>(summary.source_cached_elements());
}

std::string bias_names(const Geometry& g) {
  std::string names;
  const auto add = [&](bool present, const char* name) {
    if (present) names += (names.empty() ? "" : ", ") + std::string(name);
  };
  add(g.query_bias, "query");
  add(g.key_bias, "key");
  add(g.value_bias, "value");
  add(g.output_bias, "output");
  add(g.mlp_bias, "mlp");
  return names.empty() ? "none" : names;
}

void print_geometry(const ModelSummary& summary, std::ostream& out) {
  const Geometry& g = summary.geometry;
  const bool scaled = g.rope_scaling.type != "default";
  out << summary.model << '\n'
      << "  family          " << g.family << ", " << g.layers << " layers, weights in " << summary.weights_dtype << '\n'
      << "  sizes           vocabulary " << g.vocabulary << ", hidden " << g.hidden << ", intermediate "
      << g.intermediate << ", context " << g.max_positions << '\n'
      << "  heads           " << g.heads << " query, " << g.kv_heads << " key/value, head_dim " << g.head_dim << '\n'
      << "  rope            theta " << rounded(g.rope_theta) << ", scaling " << g.rope_scaling.type
      << (scaled ? " by " + rounded(g.rope_scaling.factor) : "") << '\n'
      << "  embeddings      " << (g.tied_embeddings ? "tied" : "untied") << '\n'
      << "  biases          " << bias_names(g) << '\n'
      << "  qk-norm         " << (g.qk_norm ? "yes" : "no") << "\n\n";
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
    return std::tuple(l.attention, l.pairs, l.latent_width, l.window, l.cached_elements);
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
      << dtype_name(dtype) << ") per token; " << rounded(ratio(summary), 4) << " of the source's "
      << grouped(summary.source_cached_elements()) << " elements\n";
}

void print_passed_over(const ModelSummary& summary, std::ostream& out) {
  if (summary.passed_over.empty()) return;
  Table table({"key of config.json", "has no effect here, as it"});
  for (const auto& [key, reason] : summary.passed_over) table.add({brief_text(key), reason});
  out << '\n';
  table.print(out);
  out << '\n';
}

}  // namespace

std::int64_t ModelSummary::cached_elements() const {
  std::int64_t total = 0;
  for (const LayerSummary& layer : layers) total += layer.cached_elements;
  return total;
}

std::int64_t ModelSummary::source_cached_elements() const { return geometry.layers * geometry.cached_elements(); }

ModelSummary summarize_model(const Checkpoint& checkpoint) {
  ModelSummary summary;
  summary.model = checkpoint.source.string();
  summary.geometry = checkpoint.decoder.geometry;
  summary.weights_dtype = dtype_name(checkpoint.decoder.embedding.scalar_type());
  summary.source_parameters = count_parameters(summary.geometry);
  // Visiting hands out references for replacement; counting replaces nothing.
  const_cast<Decoder&>(checkpoint.decoder).visit_parameters([&](const std::string& name, at::Tensor& tensor) {
    group_of(name, summary.parameters) += tensor.numel();
  });
  for (std::size_t i = 0; i < checkpoint.decoder.layers.size(); ++i) {
    summary.layers.push_back(summarize_layer(checkpoint.decoder, i));
  }
  if (std::filesystem::is_directory(checkpoint.source)) {
    summary.passed_over = passed_over_keys(without_latent_config(checkpoint.config, summary.model), summary.model);
  }
  return summary;
}

Json to_json(const ModelSummary& summary, at::ScalarType cache_dtype) {
  const auto size = static_cast<std::int64_t>(c10::elementSize(cache_dtype));
  Json layers = Json::array(), keys = Json::object();
  for (const auto& [key, reason] : summary.passed_over) keys[key] = reason;
  for (const LayerSummary& layer : summary.layers) {
    layers.push_back({{"layer", layer.layer},
                      {"attention", layer.attention},
                      {"pairs", layer.pairs},
                      {"latent_width", layer.latent_width ? Json(*layer.latent_width) : Json()},
                      {"window", layer.window},
                      {"cached_elements_per_token", layer.cached_elements},
                      {"cached_bytes_per_token", layer.cached_elements * size}});
  }
  return {{"model", summary.model},
          {"family", summary.geometry.family},
          {"weights_dtype", summary.weights_dtype},
          {"geometry", geometry_json(summary.geometry)},
          {"parameters", parameters_json(summary.parameters)},
          {"source_parameters", parameters_json(summary.source_parameters)},
          {"layers", layers},
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
  print_passed_over(summary, out);
}

}  // namespace mla
