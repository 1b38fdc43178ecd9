#include "experiments/plan/pass_list.h"

#include <map>

#include "core/base/error.h"
#include "core/base/registry.h"

namespace mla {
namespace {

Json fit_json(const LayerFitReport& fit) {
  return {
      {"error_before", fit.before}, {"error_after", fit.after}, {"judged_on", fit.judged_on},        {"rows", fit.rows},
      {"kept", fit.kept},           {"tokens", fit.tokens},     {"unique_tokens", fit.unique_tokens}};
}

}  // namespace

std::vector<PlannedPass> plan_passes(const Json& list, const std::string& path, const ModelSpec& spec) {
  std::vector<PlannedPass> passes;
  for (std::size_t i = 0; i < list.size(); ++i) {
    PlannedPass planned;
    planned.config = list[i];
    planned.path = cat(path, "[", i, "]");
    planned.pass = Registry<Pass>::instance().make(planned.config, planned.path);
    planned.name = planned.config.at("name").get<std::string>();
    planned.before = planned_spec(passes, spec);
    planned.after = planned.pass->plan(planned.before);
    passes.push_back(std::move(planned));
  }
  return passes;
}

const ModelSpec& planned_spec(const std::vector<PlannedPass>& passes, const ModelSpec& spec) {
  return passes.empty() ? spec : passes.back().after;
}

std::vector<LayerReport> combine_reports(const std::vector<PassReport>& reports) {
  std::map<std::int64_t, LayerReport> found;  // by layer of the published model, which passes keep track of
  for (const PassReport& report : reports) {
    for (std::size_t i = 0; i < report.layers.size(); ++i) {
      const LayerReport& from = report.layers[i];
      LayerReport& to = found[report.after.layers[i].source_layer];
      to.seconds += from.seconds;
      if (!from.kept.empty()) to.kept = from.kept;
      if (from.fit) to.fit = from.fit;
      const bool decomposed = !from.singular_values.empty() || !from.value_singular_values.empty();
      if (!decomposed && from.error.joint == 0) continue;
      to.singular_values = from.singular_values;
      to.value_singular_values = from.value_singular_values;
      to.error = from.error;
    }
  }
  std::vector<LayerReport> combined;
  for (const LayerSpec& layer : reports.back().after.layers) combined.push_back(found[layer.source_layer]);
  return combined;
}

Json report_json(const std::string& pass, const std::vector<LayerReport>& layers, const ModelSpec& before,
                 const ModelSpec& after) {
  Json list = Json::array();
  for (const LayerReport& layer : layers) {
    const std::int64_t index = std::ssize(list);
    const AttentionSpec& attention = after.attention(index);
    list.push_back(
        {{"layer", index},
         {"source_layer", after.layers[static_cast<std::size_t>(index)].source_layer},
         {"attention", attention.kind()},
         {"kept_pairs", layer.kept},
         {"relative_error", {{"joint", layer.error.joint}, {"key", layer.error.key}, {"value", layer.error.value}}},
         {"latent_width", attention.latent_width().value_or(0)},
         {"cached_elements_per_token", cached_elements(attention)},
         {"parameters", attention.parameter_count(after)}});
    if (layer.fit) list.back()["fit"] = fit_json(*layer.fit);
  }
  return {{"pass", pass},
          {"parameters_before", count_parameters(before).total()},
          {"parameters", count_parameters(after).total()},
          {"cached_elements_per_token_before", cached_elements(before)},
          {"cached_elements_per_token", cached_elements(after)},
          {"cached_elements_per_token_and_layer_before", cached_elements(before.attention(0))},
          {"cache_ratio", cache_ratio(before, after)},
          {"layers", list}};
}

Json report_json(const std::vector<PassReport>& reports) {
  Json all = Json::array();
  for (const PassReport& report : reports)
    all.push_back(report_json(report.pass, report.layers, report.before, report.after));
  return all;
}

}  // namespace mla
