#include "analysis/records/dimension.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <string_view>

#include "analysis/records/mixed_programs.h"
#include "analysis/records/passes.h"
#include "analysis/records/portable_config.h"
#include "core/base/config_path.h"
#include "core/base/error.h"
#include "core/base/hash.h"
#include "core/base/suggest.h"

namespace mla {
namespace {

const Json kNone;

/// Whether `path` of a config says something of its part `name`.
bool is_of(const std::string& path, const std::string& name) {
  return path.find("." + name + ".") != std::string::npos || path.ends_with("." + name) || path.starts_with(name + ".");
}

/// What else distinguishes the run in its grid.
Json settings(const Observation& observation) {
  if (observation.as_source) return "";
  std::string text;
  for (const auto& [path, value] : observation.record->settings.items()) {
    const bool shown =
        is_of(path, "rope") || is_of(path, "low_rank") || path == "cache.codec" || path == "cache.update";
    if (shown || path == "seed" || path.ends_with(".seed") || path == "compress" || path == "model.path") continue;
    if (value.is_null()) continue;  // the cell without what others have
    text += cat(text.empty() ? "" : ", ", path, "=", plain_text(value));
  }
  return text;
}

/// How the cache is quantized; empty where it is kept as computed.
std::string cache_text(const Observation& observation) {
  const Json& codec = codec_of(observation);
  if (codec.is_null()) return "";
  const Json* update = find_at(observation.record->outline.config, "cache.update");
  return codec_text(codec) + (update && *update == "requantize" ? " requantized" : "");
}

/// "Int4 HQQ": the words of the paper's tables.
std::string precision(const Observation& observation) {
  static const std::map<std::string, std::string> names = {
      {"hqq", "HQQ"}, {"quanto", "Quanto"}, {"kivi", "KIVI"}, {"kvquant", "KVQuant"}, {"rtn", "RTN"}};
  const Json& codec = codec_of(observation);
  if (codec.is_null()) return "as computed";
  const auto bits = codec_bits(codec);
  std::string name = codec.is_object() ? name_in(codec) : plain_text(codec);
  if (codec.is_string()) name = name.substr(0, name.find_last_not_of("0123456789") + 1);
  const auto known = names.find(name);
  return cat(bits ? cat("Int", *bits, " ") : "", known == names.end() ? name : known->second);
}

Json seed_of(const RecordOutline& record) {
  for (const char* path : {"train.seed", "seed"}) {
    if (const Json* seed = find_at(record.config, path)) return *seed;
  }
  return 0;
}

Json or_null(const std::optional<double>& value) { return value ? Json(*value) : Json(); }

double layer_sum(const RecordOutline& record, const char* name) {
  double sum = 0;
  for (const Json& layer : record.layers) sum += layer.value(name, 0.0);
  return sum;
}

std::optional<double> layer_mean(const RecordOutline& record, const char* name) {
  if (record.layers.empty()) return {};
  return layer_sum(record, name) / static_cast<double>(record.layers.size());
}

/// Of a cache that a codec stores: what decoding through it counted, /cached_decoding/<stage>/<task>.
std::optional<double> quantized_bytes_per_token(const Observation& observation) {
  if (codec_of(observation).is_null()) return {};
  const std::string start = cat("/cached_decoding/", observation.stage, "/"), bytes = "@counted_bytes";
  const auto& others = observation.record->outline.others;
  for (const auto& [path, value] : others) {
    if (!path.starts_with(start) || !path.ends_with(bytes)) continue;
    const std::string tokens = path.substr(0, path.size() - bytes.size()) + "@tokens";
    for (const auto& [other, count] : others) {
      if (other == tokens && count > 0) return value / count;
    }
  }
  return {};
}

/// What was counted of a stage; null: nothing.
const CacheRecord* counted_in(const Observation& observation) {
  for (const CacheRecord& cache : observation.record->outline.cache) {
    if (cache.stage == observation.stage && cache.tokens > 0) return &cache;
  }
  return nullptr;
}

/// Bytes per token of a stage's cache, as counted in its buffers.
std::optional<double> bytes_per_token(const Observation& observation) {
  if (const auto quantized = quantized_bytes_per_token(observation)) return quantized;
  const CacheRecord* counted = counted_in(observation);
  if (!counted) return {};
  return static_cast<double>(counted->counted_bytes) / static_cast<double>(counted->tokens);
}

/// Bytes of a stage's weights; records of older programs do not tell.
std::optional<double> weight_bytes(const Observation& observation) {
  const CacheRecord* counted = counted_in(observation);
  if (!counted || !counted->counted_weight_bytes) return {};
  return static_cast<double>(*counted->counted_weight_bytes);
}

std::optional<double> seconds_of(const RecordOutline& record, const std::string& stage) {
  double sum = 0;
  bool found = false;
  for (const auto& [name, seconds] : record.seconds) {
    if (!stage.empty() && name != stage) continue;
    sum += seconds;
    found = true;
  }
  return found ? std::optional(sum) : std::nullopt;
}

/// Of the recipe of fine-tuning, as far as the config states it.
std::optional<double> recipe_number(const RecordOutline& record, const std::string& name) {
  const auto at = [&](const std::string& path) -> std::optional<double> {
    const Json* value = find_at(record.config, path);
    return value && value->is_number() ? std::optional(value->get<double>()) : std::nullopt;
  };
  if (name == "sequences_per_step") {
    const auto rows = at("train.batch_rows");
    return rows ? std::optional(*rows * at("train.accumulation").value_or(1)) : std::nullopt;
  }
  if (name == "warmup_percent" || name == "decay_percent") {
    const std::string part = name.substr(0, name.find('_'));
    const auto share = at("train.schedule." + part + "_fraction");
    return share ? std::optional(100 * *share) : std::nullopt;
  }
  if (name == "hours") {
    const auto seconds = seconds_of(record, "train");
    return seconds ? std::optional(*seconds / 3600) : std::nullopt;
  }
  if (name == "learning_rate" || name == "steps" || name == "sequence_length") return at("train." + name);
  return at(name);
}

/// Share of the cache that is saved: by counted bytes, which know of quantization, or else by elements.
double saved_percent(const Observation& observation) {
  if (observation.as_source && codec_of(observation).is_null()) return 0;
  const auto mine = bytes_per_token(observation);
  const auto source = bytes_per_token({observation.record, "source", true});
  if (mine && source && *source > 0) return 100 * (1 - *mine / *source);
  return 100 * (1 - cache_ratio(observation.record->outline));
}

double nominal_saved_percent(const Observation& observation) {
  constexpr double kBitsOfTheSource = 16;
  const double elements = observation.as_source ? 1 : cache_ratio(observation.record->outline);
  return 100 * (1 - elements * codec_bits(codec_of(observation)).value_or(kBitsOfTheSource) / kBitsOfTheSource);
}

}  // namespace

std::optional<std::string> task_of(const Observation& observation, const ScoreOutline& score) {
  constexpr std::string_view kCached = ", cached";
  if (score.stage != observation.stage) return {};
  const bool cached = score.task.ends_with(kCached);
  switch (observation.scores) {
    case CacheScores::kAll:
      return score.task;
    case CacheScores::kAsComputed:
      return cached ? std::nullopt : std::optional(score.task);
    case CacheScores::kThroughCodec:
      return cached ? std::optional(score.task.substr(0, score.task.size() - kCached.size())) : std::nullopt;
  }
  return {};
}

const ScoreOutline* find_score(const Observation& observation, const std::string& task, const std::string& metric) {
  const auto& scores = observation.record->outline.evaluation;
  const auto found = std::find_if(scores.begin(), scores.end(), [&](const ScoreOutline& score) {
    return score.metric == metric && task_of(observation, score) == task;
  });
  return found == scores.end() ? nullptr : &*found;
}

const Json& codec_of(const Observation& observation) {
  if (observation.scores == CacheScores::kAsComputed) return kNone;
  if (observation.as_source && observation.scores != CacheScores::kThroughCodec) return kNone;
  for (const char* path : {"cache.codec", "cache"}) {
    const Json* found = find_at(observation.record->outline.config, path);
    if (!found) continue;
    if (found->is_string() || (found->is_object() && found->contains("name"))) return *found;
  }
  return kNone;
}

std::string codec_text(const Json& codec) {
  if (!codec.is_object()) return plain_text(codec);
  std::string text = name_in(codec);
  if (codec.contains("bits")) text += cat(" ", codec.at("bits").dump(), " bit");
  for (const auto& [key, value] : codec.items()) {
    if (key != "name" && key != "bits" && !value.is_structured()) text += cat(" ", key, "=", plain_text(value));
  }
  return text;
}

std::optional<double> codec_bits(const Json& codec) {
  if (codec.is_object() && codec.contains("bits") && codec.at("bits").is_number())
    return codec.at("bits").get<double>();
  if (!codec.is_string()) return {};
  const std::string text = codec, digits = text.substr(text.find_last_not_of("0123456789") + 1);
  return digits.empty() ? std::nullopt : std::optional(std::stod(digits));
}

std::string plain_text(const Json& value) {
  if (value.is_null()) return "";
  return value.is_string() ? value.get<std::string>() : value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::vector<std::string> leaf_paths(const Json& config) {
  std::vector<std::string> paths;
  const auto walk = [&](const auto& self, const Json& value, const std::string& path) -> void {
    if (value.is_object() && !value.empty()) {
      for (const auto& [key, member] : value.items()) self(self, member, path.empty() ? key : cat(path, ".", key));
    } else if (value.is_array() &&
               std::any_of(value.begin(), value.end(), [](const Json& item) { return item.is_structured(); })) {
      for (std::size_t i = 0; i < value.size(); ++i) self(self, value[i], cat(path, "[", i, "]"));
    } else {
      paths.push_back(path);
    }
  };
  walk(walk, config, "");
  return paths;
}

const std::vector<DimensionName>& dimension_names() {
  static const std::vector<DimensionName> names = {
      {"experiment", "name of the experiment"},
      {"cell", "name of the grid's cell"},
      {"status", "complete or diverged"},
      {"stage", "source, converted, fine_tuned, …"},
      {"model", "folder of the source model"},
      {"method", "compression pass; none for a model that is not compressed"},
      {"rope", "RoPE selection with its pairs: high r=2"},
      {"rope_name", "RoPE selection alone"},
      {"pairs", "rotation pairs kept per head"},
      {"low_rank", "factorization with its width: joint_svd d_kv=8"},
      {"low_rank_name", "factorization alone"},
      {"d_kv", "latent elements per KV head"},
      {"cache", "codec of what is cached, with its options; empty where it is kept as computed"},
      {"precision", "the same in the paper's words: Int4 HQQ"},
      {"settings", "what else distinguishes the run in its grid"},
      {"seed", "seed of training"},
      {"saved_percent", "saved of the cache's bytes as counted, or else of its elements, percent"},
      {"nominal_saved_percent", "as the paper counts: elements times bits of a code, against 16 bits"},
      {"bytes_per_token", "of the cache, counted in its buffers"},
      {"commit", "commit of the program that ran it"},
      {"config", "hash of the config without seeds"}};
  return names;
}

Json dimension(const Observation& observation, const std::string& name) {
  const RecordOutline& record = observation.record->outline;
  Json room;
  const Json& pass = observation.as_source ? kNone : pass_of(observation.record->outline.config, room);
  if (name == "experiment") return record.head.experiment;
  if (name == "cell") return record.head.cell;
  if (name == "status") return status_name(record);
  if (name == "stage") return observation.stage;
  if (name == "model") return model_name(record.config);
  if (name == "method") return pass.is_null() ? Json("none") : Json(name_in(pass));
  if (name == "rope") return pass.is_null() ? Json("all") : strategy_text(pass, "rope", "pairs", "r");
  if (name == "rope_name") return pass.is_null() ? Json("all") : text_at(pass, "rope", "name");
  if (name == "pairs") return text_at(pass, "rope", "pairs");
  if (name == "low_rank") return strategy_text(pass, "low_rank", "d_kv", "d_kv");
  if (name == "low_rank_name") return pass.is_null() ? Json() : text_at(pass, "low_rank", "name");
  if (name == "d_kv") return text_at(pass, "low_rank", "name") == "none" ? Json() : text_at(pass, "low_rank", "d_kv");
  if (name == "cache") return cache_text(observation);
  if (name == "precision") return precision(observation);
  if (name == "settings") return settings(observation);
  if (name == "seed") return seed_of(record);
  if (name == "saved_percent" || name == "nominal_saved_percent" || name == "bytes_per_token")
    return or_null(run_number(observation, name));
  if (name == "commit") return record.provenance.value("git_hash", Json());
  if (name == "config") return hash_json(portable_config_without_seeds(*observation.record));
  if (name == "provenance.numerics_version") return numerics_version(record);
  if (name.starts_with("provenance.")) return record.provenance.value(name.substr(11), Json());
  const Json* found = find_at(record.config, name);
  return found ? *found : Json();
}

const std::vector<DimensionName>& run_numbers() {
  static const std::vector<DimensionName> names = {
      {"bytes_per_token", "of the stage's cache, counted in its buffers"},
      {"weight_bytes", "of the stage's model, counted in its buffers"},
      {"cached_elements", "cached per token, all layers"},
      {"saved_percent", "saved of the cache's bytes as counted, or else of its elements"},
      {"nominal_saved_percent", "as the paper counts: elements times bits of a code, against 16 bits"},
      {"attention_parameters", "of all attention layers after compression"},
      {"parameters_removed", "of all attention layers by compression"},
      {"joint_error", "relative error of keys and values, mean over layers"},
      {"key_error", "relative error of position-free keys, mean over layers"},
      {"value_error", "relative error of values, mean over layers"},
      {"sequences_per_step", "rows of a batch times accumulation"},
      {"learning_rate", "of the config"},
      {"steps", "of the config"},
      {"warmup_percent", "of the steps"},
      {"decay_percent", "of the steps"},
      {"sequence_length", "of the config"},
      {"hours", "of training"},
      {"seconds", "of all stages; seconds.STAGE of one"}};
  return names;
}

std::optional<double> run_number(const Observation& observation, const std::string& name) {
  const RecordOutline& record = observation.record->outline;
  if (name == "bytes_per_token") return bytes_per_token(observation);
  if (name == "weight_bytes") return weight_bytes(observation);
  if (name == "saved_percent") return saved_percent(observation);
  if (name == "nominal_saved_percent") return nominal_saved_percent(observation);
  if (name == "seconds" || name.starts_with("seconds."))
    return seconds_of(record, name.size() > 8 ? name.substr(8) : "");
  if (name.starts_with("/")) {
    for (const auto& [path, value] : record.others) {
      if (path == name) return value;
    }
    return {};
  }
  if (name.find_first_of(" /*") != std::string::npos || name.empty()) return {};
  if (const auto number = recipe_number(record, name)) return number;
  if (record.layers.empty()) return {};
  const bool source = observation.as_source;
  if (name == "cached_elements") return layer_sum(record, source ? "cached_elements_before" : "cached_elements");
  if (name == "attention_parameters") return layer_sum(record, source ? "parameters_before" : "parameters");
  if (name == "parameters_removed")
    return source ? 0 : layer_sum(record, "parameters_before") - layer_sum(record, "parameters");
  if (source) return {};
  if (name == "joint_error" || name == "key_error" || name == "value_error") return layer_mean(record, name.c_str());
  return {};
}

void check_dimension(const RecordSet& set, const std::string& name, const std::string& option) {
  std::vector<std::string> known;
  for (const DimensionName& each : dimension_names()) known.push_back(each.name);
  if (std::find(known.begin(), known.end(), name) != known.end() || name.starts_with("provenance.")) return;
  split_path(name);  // a path that is none is an error by itself
  for (const LoadedRecord& record : set.records) {
    if (find_at(record.outline.config, name)) return;
  }
  for (const LoadedRecord& record : set.records) {
    for (const std::string& path : leaf_paths(record.outline.config)) {
      if (std::find(known.begin(), known.end(), path) == known.end()) known.push_back(path);
    }
    if (known.size() > 60) break;
  }
  throw ConfigError(cat(option, ": ", unknown_name(name, known)));
}

std::string stage_of(const RecordOutline& record, const std::string& wanted) {
  static const std::vector<std::string> order = {"source", "partial_rope", "converted"};  // anything else comes later
  std::string last;
  std::size_t last_place = 0;
  for (const ScoreOutline& score : record.evaluation) {
    if (!wanted.empty()) {
      if (score.stage == wanted) return wanted;
      continue;
    }
    if (score.stage.find("_of_layer_") != std::string::npos) continue;  // of one layer changed alone
    const auto place = static_cast<std::size_t>(std::find(order.begin(), order.end(), score.stage) - order.begin());
    if (last.empty() || place >= last_place) last = score.stage;
    last_place = std::max(last_place, place);
  }
  return last;
}

}  // namespace mla
