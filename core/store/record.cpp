#include "core/store/record.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/store/field_group.h"
#include "core/store/hdf5_file.h"
#include "core/store/record_contents.h"
#include "core/store/record_file.h"
#include "core/store/record_outline.h"

namespace mla {
namespace {

constexpr const char* kFormat = "mlaforge run record";

void write_json_dataset(Hdf5File& file, const std::string& path, const Json& value, const char* description) {
  file.write(path, NdArray<std::string>{{}, {value.dump(2, ' ', false, Json::error_handler_t::replace)}});
  file.set_attribute(path, "description", std::string(description));
}

Json read_json_dataset(const Hdf5File& file, const std::string& path) {
  const auto text = file.read<std::string>(path);
  return parse_json(text.values.empty() ? "" : text.values.front(), file.name() + ": " + path);
}

/// A name that becomes a group.
const std::string& group_name(const std::string& name) {
  expects(!name.empty() && name != "." && name.find('/') == std::string::npos, cat("'", name, "' cannot name a group"));
  return name;
}

/// A new group; two entries of one name would be a caller's mistake.
std::string new_group(const Hdf5File& file, const std::string& group) {
  expects(!file.exists(group), cat(group, " is recorded twice"));
  return group;
}

void write_seconds(Hdf5File& file, const RunRecord& record) {
  for (const auto& [stage, seconds] : record.seconds) {
    const std::string path = new_group(file, "/timing/" + group_name(stage));
    file.write(path, NdArray<double>{{}, {seconds}});
    file.set_attribute(path, "unit", std::string("s"));
  }
}

void write_training(Hdf5File& file, const TrainingSeries& training) {
  const std::size_t length = training.step.size();
  // What an earlier record did not keep is empty.
  for (const std::size_t size :
       {training.tokens.size(), training.loss.size(), training.learning_rate.size(), training.gradient_norm.size()})
    expects(size == length || size == 0, "the training series differ in length");
  if (length > 0) write_group(file, "/training", training);
}

void write_training_scores(Hdf5File& file, const std::vector<TrainingScores>& all) {
  for (const TrainingScores& scores : all) {
    expects(scores.step.size() == scores.value.size(), "scores during training differ in length from their steps");
    const std::string group = training_scores_group(group_name(scores.task), group_name(scores.metric));
    write_group(file, new_group(file, group), scores);
  }
}

void read_training_scores(const Hdf5File& file, RunRecord& record) {
  for (const std::string& task : member_groups(file, "/training_scores")) {
    for (const std::string& metric : described_groups(file, "/training_scores/" + task)) {
      record.training_scores.push_back(read_group<TrainingScores>(file, training_scores_group(task, metric)));
      record.training_scores.back().task = task;
      record.training_scores.back().metric = metric;
    }
  }
}

void write_scores(Hdf5File& file, const RunRecord& record) {
  for (const ScoreRecord& score : record.evaluation) {
    const std::string group = "/evaluation/" + group_name(score.stage) + "/" + group_name(score.task) + "/";
    write_group(file, new_group(file, group + group_name(score.metric)), score);
  }
}

void read_scores(const Hdf5File& file, RunRecord& record) {
  const std::int64_t version = record_version(file);
  for (const std::string& stage : member_groups(file, "/evaluation")) {
    const std::string stage_group = "/evaluation/" + stage;
    for (const std::string& task : member_groups(file, stage_group)) {
      const std::string task_group = stage_group + "/" + task;
      for (const std::string& metric : described_groups(file, task_group)) {
        auto score = read_group<ScoreRecord>(file, task_group + "/" + metric);
        score.stage = stage;
        score.task = task;
        score.metric = metric;
        upgrade_score(version, score);
        record.evaluation.push_back(std::move(score));
      }
    }
  }
}

void read_cache(const Hdf5File& file, RunRecord& record) {
  for (const std::string& stage : described_groups(file, "/cache")) {
    record.cache.push_back(read_group<CacheRecord>(file, "/cache/" + stage));
    record.cache.back().stage = stage;
  }
}

void write_cached_decoding(Hdf5File& file, const RunRecord& record) {
  for (const CachedDecodingRecord& decoding : record.cached_decoding) {
    const std::string group = "/cached_decoding/" + group_name(decoding.stage) + "/" + group_name(decoding.task);
    write_group(file, new_group(file, group), decoding);
  }
}

void read_cached_decoding(const Hdf5File& file, RunRecord& record) {
  for (const std::string& stage : member_groups(file, "/cached_decoding")) {
    for (const std::string& task : described_groups(file, "/cached_decoding/" + stage)) {
      record.cached_decoding.push_back(
          read_group<CachedDecodingRecord>(file, "/cached_decoding/" + stage + "/" + task));
      record.cached_decoding.back().stage = stage;
      record.cached_decoding.back().task = task;
    }
  }
}

/// Members of a group that `wanted` accepts; none where there is no such group.
template <class Wanted>
std::vector<std::string> members_where(const Hdf5File& file, const std::string& group, const Wanted& wanted) {
  if (file.kind(group) != Hdf5Kind::kGroup) return {};
  std::vector<std::string> names = file.children(group);
  std::erase_if(names, [&](const std::string& name) { return !wanted(cat(group, "/", name)); });
  return names;
}

/// Throws DataError where a record that has lost its checksum was changed; hides what was added within its groups.
void check_unsealed(Hdf5File& file) {
  const auto contents = check_contents(file);
  if (!contents) return;
  if (!contents->unchanged) {
    throw DataError(cat(file.name(),
                        ": the file is damaged: another program has changed what was written in it (its inner checksum "
                        "does not fit)"));
  }
  std::vector<std::string> within;
  for (const std::string& path : contents->added) {
    if (path.find('/', 1) != std::string::npos && path.find('@') == std::string::npos) within.push_back(path);
  }
  file.hide(std::move(within));
}

}  // namespace

std::string layer_group(std::size_t layer) { return fmt::format("/compression/layer_{:03}", layer); }

std::string training_scores_group(const std::string& task, const std::string& metric) {
  return cat("/training_scores/", task, "/", metric);
}

bool has_numbers_only(const Json& layer) {
  detail::NameCollector names;
  const LayerRecord any;
  LayerRecord::fields(any, names);
  return std::all_of(names.names.begin(), names.names.end(), [&](const std::string& name) {
    const auto found = layer.find(name);
    return found == layer.end() || found->is_number();
  });
}

std::int64_t record_version(const Hdf5File& record) {
  const AttributeValue version = record.attribute("/", "version");
  const auto* number = std::get_if<std::int64_t>(&version);
  if (!number) throw DataError(cat(record.name(), ": its attribute version is no signed integer, as a record's is"));
  const std::string versions = cat("; this program reads versions 1 to ", kRecordVersion);
  if (*number > kRecordVersion)
    throw NewerRecord(cat(record.name(), ": record version ", *number, ", of a later program", versions));
  if (*number < 1) throw DataError(cat(record.name(), ": record version ", *number, versions));
  return *number;
}

Hdf5File open_record(const std::filesystem::path& path) {
  Hdf5File file = Hdf5File::open(path);
  if (!file.has_attribute("/", "format") || file.attribute("/", "format") != AttributeValue(kFormat)) {
    throw DataError(
        cat(path.string(), ": an HDF5 file, but no run record (attribute 'format' is not '", kFormat, "')"));
  }
  record_version(file);
  if (!file.sealed()) check_unsealed(file);
  return file;
}

std::vector<std::string> member_groups(const Hdf5File& record, const std::string& group) {
  return members_where(record, group, [&](const std::string& path) { return record.kind(path) == Hdf5Kind::kGroup; });
}

std::vector<std::string> described_groups(const Hdf5File& record, const std::string& group) {
  return members_where(record, group, [&](const std::string& path) {
    return record.kind(path) == Hdf5Kind::kGroup && record.has_attribute(path, "fields");
  });
}

std::vector<std::pair<std::string, double>> read_stage_seconds(const Hdf5File& record) {
  std::vector<std::pair<std::string, double>> all;
  for (const std::string& stage : members_where(record, "/timing", [&](const std::string& path) {
         return record.kind(path) == Hdf5Kind::kNumbers && record.shape(path).empty();
       })) {
    const auto seconds = record.read<double>("/timing/" + stage).values;
    all.emplace_back(stage, seconds.empty() ? 0 : seconds.front());
  }
  return all;
}

std::vector<std::pair<std::string, RunStatus>> enum_names(RunStatus) {
  return {{"complete", RunStatus::kComplete},
          {"diverged", RunStatus::kDiverged},
          {"failed", RunStatus::kFailed},
          {"interrupted", RunStatus::kInterrupted}};
}

void write_record(const std::filesystem::path& path, const RunRecord& record) {
  Hdf5File file = Hdf5File::create(path.string());
  file.set_attribute("/", "format", std::string(kFormat));
  file.set_attribute("/", "version", kRecordVersion);
  write_group(file, "/", record.head);
  write_json_dataset(file, "/config", record.config, "the run's config with all bases and overrides, JSON");
  write_json_dataset(file, "/overrides", record.overrides, "what distinguishes this cell of the grid, JSON");
  write_group(file, "/provenance", record.provenance);
  write_seconds(file, record);
  for (std::size_t layer = 0; layer < record.compression.size(); ++layer) {
    write_group(file, layer_group(layer), record.compression[layer]);
  }
  if (!record.passes.empty()) write_json_dataset(file, "/passes", record.passes, "what each pass did, in order, JSON");
  write_training(file, record.training);
  write_training_scores(file, record.training_scores);
  write_scores(file, record);
  for (const CacheRecord& cache : record.cache) {
    write_group(file, new_group(file, "/cache/" + group_name(cache.stage)), cache);
  }
  write_cached_decoding(file, record);
  write_contents(file);
  file.save(path, outline_note(file));
}

RunRecord read_record(const std::filesystem::path& path) {
  const Hdf5File file = open_record(path);
  RunRecord record;
  record.head = read_group<RecordHead>(file, "/");
  record.config = read_json_dataset(file, "/config");
  if (file.exists("/overrides")) record.overrides = read_json_dataset(file, "/overrides");
  if (file.exists("/provenance")) record.provenance = read_group<Provenance>(file, "/provenance");
  record.seconds = read_stage_seconds(file);
  for (std::size_t layer = 0; file.exists(layer_group(layer)); ++layer) {
    record.compression.push_back(read_group<LayerRecord>(file, layer_group(layer)));
  }
  if (file.exists("/passes")) record.passes = read_json_dataset(file, "/passes");
  if (file.exists("/training")) record.training = read_group<TrainingSeries>(file, "/training");
  read_training_scores(file, record);
  read_scores(file, record);
  read_cache(file, record);
  read_cached_decoding(file, record);
  return record;
}

RecordHead read_record_head(const std::filesystem::path& path) {
  return read_group<RecordHead>(open_record(path), "/");
}

}  // namespace mla
