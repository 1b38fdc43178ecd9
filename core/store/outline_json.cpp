// Outlines as JSON, short: scores are lists, as there are hundreds of them in a record.
#include <cmath>

#include "core/base/error.h"
#include "core/store/record_file.h"
#include "core/store/record_outline.h"

namespace mla {
namespace {

constexpr std::int64_t kNoteVersion = 1;

/// JSON has no numbers that are not finite.
Json number_to_json(double value) { return std::isfinite(value) ? Json(value) : Json(cat(value)); }

double number_from_json(const Json& json) {
  return json.is_string() ? std::strtod(json.get_ref<const std::string&>().c_str(), nullptr) : json.get<double>();
}

/// Scalars by name, of which floating-point ones may not be finite; texts stay, since they are marked.
Json scalars_to_json(const Json& scalars) {
  Json json = scalars;
  for (Json& value : json) {
    if (value.is_number_float() && !std::isfinite(value.get<double>()))
      value = Json::array({number_to_json(value.get<double>())});
  }
  return json;
}

Json scalars_from_json(Json json) {
  for (Json& value : json) {
    if (value.is_array()) value = number_from_json(value.at(0));
  }
  return json;
}

Json pairs_to_json(const std::vector<std::pair<std::string, double>>& pairs) {
  Json json = Json::array();
  for (const auto& [name, value] : pairs) json.push_back({name, number_to_json(value)});
  return json;
}

std::vector<std::pair<std::string, double>> pairs_from_json(const Json& json) {
  std::vector<std::pair<std::string, double>> pairs;
  for (const Json& pair : json) pairs.emplace_back(pair.at(0).get<std::string>(), number_from_json(pair.at(1)));
  return pairs;
}

Json score_to_json(const ScoreOutline& score) {
  return Json::array({score.stage, score.task, score.metric, number_to_json(score.value),
                      score.standard_error ? number_to_json(*score.standard_error) : Json(), score.n,
                      score.higher_is_better, score.unit, score.spread ? number_to_json(*score.spread) : Json()});
}

ScoreOutline score_from_json(const Json& json) {
  ScoreOutline score;
  score.stage = json.at(0);
  score.task = json.at(1);
  score.metric = json.at(2);
  score.value = number_from_json(json.at(3));
  if (!json.at(4).is_null()) score.standard_error = number_from_json(json.at(4));
  score.n = json.at(5);
  score.higher_is_better = json.at(6);
  score.unit = json.at(7);
  if (json.size() > 8 && !json[8].is_null()) score.spread = number_from_json(json[8]);
  return score;
}

/// Fields that the object has; keys of a later program are passed over.
template <class T>
void read_known(const Json& json, const std::string& path, T& value) {
  detail::Reader reader{json, path};
  T::fields(value, reader);
}

}  // namespace

Json outline_to_json(const RecordOutline& outline) {
  Json json = {{"outline", kNoteVersion},
               {"version", outline.version},
               {"head", write_fields(outline.head)},
               {"config", outline.config},
               {"overrides", outline.overrides},
               {"provenance", scalars_to_json(outline.provenance)},
               {"seconds", pairs_to_json(outline.seconds)}};
  for (const char* list : {"layers", "evaluation", "cache"}) json[list] = Json::array();
  for (const Json& layer : outline.layers) json["layers"].push_back(scalars_to_json(layer));
  for (const ScoreOutline& score : outline.evaluation) json["evaluation"].push_back(score_to_json(score));
  for (const CacheRecord& cache : outline.cache) json["cache"].push_back({cache.stage, write_fields(cache)});
  json["others"] = pairs_to_json(outline.others);
  return json;
}

std::optional<RecordOutline> outline_from_json(Json json, const std::string& name) {
  RecordOutline outline;
  try {
    if (json.at("outline") != kNoteVersion) return {};
    outline.version = json.value("version", std::int64_t{1});
    if (outline.version > kRecordVersion) return {};
    read_known(json.at("head"), "head", outline.head);
    outline.config = std::move(json.at("config"));
    outline.overrides = std::move(json.at("overrides"));
    outline.provenance = scalars_from_json(std::move(json.at("provenance")));
    outline.seconds = pairs_from_json(json.at("seconds"));
    for (Json& layer : json.at("layers")) {
      outline.layers.push_back(scalars_from_json(std::move(layer)));
      if (!has_numbers_only(outline.layers.back())) return {};
    }
    for (const Json& score : json.at("evaluation")) {
      outline.evaluation.push_back(score_from_json(score));
      upgrade_score(outline.version, outline.evaluation.back());
    }
    for (const Json& cache : json.at("cache")) {
      outline.cache.emplace_back();
      read_known(cache.at(1), "cache", outline.cache.back());
      outline.cache.back().stage = cache.at(0);
    }
    outline.others = pairs_from_json(json.at("others"));
  } catch (const Json::exception& error) {
    throw DataError(cat(name, ": its outline is malformed: ", error.what()));
  } catch (const ConfigError& error) {
    throw DataError(cat(name, ": its outline is malformed: ", error.what()));
  }
  return outline;
}

}  // namespace mla
