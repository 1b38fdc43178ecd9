#include "core/store/record_outline.h"

#include <algorithm>

#include "core/store/field_group.h"
#include "core/store/hdf5_file.h"
#include "core/store/record_file.h"

namespace mla {
namespace {

const std::vector<std::string> kKnownGroups = {"config",      "overrides", "provenance", "timing",
                                               "compression", "passes",    "training",   "training_scores",
                                               "evaluation",  "cache",     "contents"};
/// Another program's groups may be of any size, and hold themselves.
constexpr std::size_t kDeepestGroup = 8, kMostOthers = 100'000;

/// Attributes of a group by name, without the descriptions of its fields.
Json scalars_of(const Hdf5File& file, const std::string& group) {
  Json scalars = Json::object();
  for (const auto& [name, value] : file.attributes(group, {"fields", "description"}))
    scalars[name] = json_from_attribute(value);
  return scalars;
}

/// Fills a struct's scalar fields, as read_group() does, without its arrays.
template <class Struct>
struct ScalarReader {
  const Json& scalars;
  const std::string& place;

  template <class T>
  void operator()(const char* name, T& value, const char*) {
    if constexpr (!detail::is_vector<T>::value) {
      const auto found = scalars.find(name);
      if (found != scalars.end()) {
        detail::read_value(*found, cat(place, "@", name), value);
      } else if (detail::is_required<Struct>(name)) {
        throw DataError(cat(place, "@", name, ": no such attribute"));
      }
    }
  }
};

template <class T>
T read_scalars(const Hdf5File& file, const std::string& group) {
  T value{};
  const Json scalars = scalars_of(file, group);
  const std::string place = cat(file.name(), ": ", group);
  ScalarReader<T> reader{scalars, place};
  try {
    T::fields(value, reader);
  } catch (const ConfigError& error) {
    throw DataError(error.what());
  }
  return value;
}

Json read_json_text(const Hdf5File& file, const std::string& path) {
  const auto text = file.read<std::string>(path);
  return parse_json(text.values.empty() ? "" : text.values.front(), file.name() + ": " + path);
}

/// The same fields by name as ScoreRecord's, of which only scalars are read.
ScoreOutline read_score(const Hdf5File& file, const std::string& stage, const std::string& task,
                        const std::string& metric) {
  const auto read = read_scalars<ScoreRecord>(file, score_group(stage, task, metric));
  return {stage, task, metric, read.value, read.standard_error, read.n, read.higher_is_better, read.unit, read.spread};
}

void read_scores(const Hdf5File& file, const OutlineParts& parts, RecordOutline& outline) {
  for (const std::string& stage : member_groups(file, "/evaluation")) {
    for (const std::string& task : member_groups(file, "/evaluation/" + stage)) {
      for (const std::string& metric : described_groups(file, "/evaluation/" + stage + "/" + task)) {
        if (parts.wanted && !parts.wanted(stage, task, metric)) continue;
        outline.evaluation.push_back(read_score(file, stage, task, metric));
        upgrade_score(outline.version, outline.evaluation.back());
      }
    }
  }
}

/// Every number of a group that stands alone.
void read_others(const Hdf5File& file, const std::string& group, std::size_t depth, RecordOutline& outline) {
  const Json scalars = scalars_of(file, group);
  for (const auto& [name, value] : scalars.items()) {
    if (value.is_number()) outline.others.emplace_back(group + "@" + name, value.get<double>());
  }
  for (const std::string& child : file.children(group)) {
    if (outline.others.size() >= kMostOthers) return;
    const std::string path = group + "/" + child;
    const Hdf5Kind kind = file.kind(path);
    if (kind == Hdf5Kind::kGroup && depth < kDeepestGroup) read_others(file, path, depth + 1, outline);
    if (kind != Hdf5Kind::kNumbers || !file.shape(path).empty()) continue;
    outline.others.emplace_back(path, file.read<double>(path).values.front());
  }
}

void read_rest(const Hdf5File& file, const OutlineParts& parts, RecordOutline& outline) {
  outline.seconds = read_stage_seconds(file);
  for (const std::string& stage : described_groups(file, "/cache")) {
    outline.cache.push_back(read_scalars<CacheRecord>(file, "/cache/" + stage));
    outline.cache.back().stage = stage;
  }
  if (!parts.others) return;
  for (const std::string& name : file.children("/")) {
    const bool known = std::find(kKnownGroups.begin(), kKnownGroups.end(), name) != kKnownGroups.end();
    if (!known && file.kind("/" + name) == Hdf5Kind::kGroup) read_others(file, "/" + name, 0, outline);
  }
}

RecordOutline outline_of(const Hdf5File& file, const OutlineParts& parts) {
  RecordOutline outline;
  outline.version = record_version(file);
  outline.head = read_scalars<RecordHead>(file, "/");
  outline.config = read_json_text(file, "/config");
  if (file.exists("/overrides")) outline.overrides = read_json_text(file, "/overrides");
  if (parts.provenance && file.exists("/provenance")) outline.provenance = scalars_of(file, "/provenance");
  if (parts.layers) {
    for (const std::string& layer : described_groups(file, "/compression")) {
      outline.layers.push_back(scalars_of(file, "/compression/" + layer));
      if (!has_numbers_only(outline.layers.back()))
        throw DataError(cat(file.name(), ": /compression/", layer, ": a value that should be a number is none"));
    }
  }
  read_scores(file, parts, outline);
  read_rest(file, parts, outline);
  return outline;
}

}  // namespace

std::string score_group(const std::string& stage, const std::string& task, const std::string& metric) {
  return cat("/evaluation/", stage, "/", task, "/", metric);
}

std::string outline_note(const Hdf5File& record) {
  OutlineParts all;
  all.provenance = true;
  return outline_to_json(outline_of(record, all)).dump(-1, ' ', false, Json::error_handler_t::replace);
}

RecordOutline read_outline_from_groups(const std::filesystem::path& path, const OutlineParts& parts) {
  return outline_of(open_record(path), parts);
}

RecordOutline read_outline(const std::filesystem::path& path, const OutlineParts& parts) {
  const std::string note = Hdf5File::read_note(path);
  if (!note.empty()) {
    if (auto outline = outline_from_json(parse_json(note, path.string() + ": note"), path.string())) return *outline;
  }
  return read_outline_from_groups(path, parts);
}

std::vector<std::vector<double>> read_arrays(const std::filesystem::path& record,
                                             const std::vector<std::string>& paths) {
  const Hdf5File file = open_record(record);
  std::vector<std::vector<double>> arrays;
  for (const std::string& path : paths) {
    arrays.emplace_back();
    if (file.exists(path)) arrays.back() = file.read<double>(path).values;
  }
  return arrays;
}

}  // namespace mla
