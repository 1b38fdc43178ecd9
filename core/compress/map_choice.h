// Which linear maps a pass over weights takes, as configs say it.
#pragma once

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "core/base/error.h"
#include "core/model/model_spec.h"

namespace mla {

enum class ChosenMaps { kAttention, kFeedForward, kEmbedding, kOutput };
inline std::vector<std::pair<std::string, ChosenMaps>> enum_names(ChosenMaps) {
  return {{"attention", ChosenMaps::kAttention},
          {"feed_forward", ChosenMaps::kFeedForward},
          {"embedding", ChosenMaps::kEmbedding},
          {"output", ChosenMaps::kOutput}};
}

/// Whether the parameter is the dense matrix of a linear map that is among the chosen ones; one without elements has
/// nothing to hold otherwise.
inline bool is_chosen(const ModelParameter& parameter, const std::vector<ChosenMaps>& maps) {
  if (!parameter.is_matrix() || parameter.storage || parameter.count() == 0) return false;
  const auto has = [&](ChosenMaps group) { return std::find(maps.begin(), maps.end(), group) != maps.end(); };
  switch (parameter.group) {
    case ParameterGroup::kAttention:
      return has(ChosenMaps::kAttention);
    case ParameterGroup::kFeedForward:
      return has(ChosenMaps::kFeedForward);
    case ParameterGroup::kEmbedding:
      return has(ChosenMaps::kEmbedding);
    case ParameterGroup::kOutput:
      return has(ChosenMaps::kOutput);
    case ParameterGroup::kNorms:
      break;
  }
  return false;
}

/// Throws ConfigError for a choice, `text` of a config's `path`.maps, that no dense linear map is among.
[[noreturn]] inline void refuse_no_map(const ModelSpec& spec, const std::string& path, const std::string& text) {
  throw ConfigError(cat(path, ".maps: ", text, ": no dense linear map of the model is among them",
                        spec.tied_embeddings ? "; its output matrix is the embedding" : ""));
}

}  // namespace mla
