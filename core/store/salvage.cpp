#include "core/store/salvage.h"

#include <vector>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/store/field_group.h"
#include "core/store/hdf5_file.h"
#include "core/store/record.h"
#include "core/store/record_file.h"
#include "core/store/record_outline.h"

namespace mla {
namespace {

/// Reads parts one after the other and remembers which could not be read.
class PartsReader {
 public:
  template <class Read>
  bool attempt(const std::string& part, const Read& read) {
    try {
      read();
      return true;
    } catch (const DataError&) {
      lost_.push_back(part);
      return false;
    }
  }
  const std::vector<std::string>& lost() const { return lost_; }

 private:
  std::vector<std::string> lost_;
};

Json read_text(const Hdf5File& file, const std::string& path) {
  const auto text = file.read<std::string>(path);
  return parse_json(text.values.empty() ? "" : text.values.front(), path);
}

/// Members of a group, as far as it can be listed.
std::vector<std::string> members(const Hdf5File& file, const std::string& group, PartsReader& parts) {
  std::vector<std::string> names;
  if (file.exists(group)) parts.attempt(group, [&] { names = file.children(group); });
  return names;
}

void read_scores(const Hdf5File& file, PartsReader& parts, RunRecord& record) {
  std::int64_t version = kRecordVersion;
  parts.attempt("version", [&] { version = record_version(file); });
  for (const std::string& stage : members(file, "/evaluation", parts)) {
    for (const std::string& task : members(file, "/evaluation/" + stage, parts)) {
      for (const std::string& metric : members(file, "/evaluation/" + stage + "/" + task, parts)) {
        const std::string group = score_group(stage, task, metric);
        parts.attempt(group, [&] {
          auto score = read_group<ScoreRecord>(file, group);
          score.stage = stage;
          score.task = task;
          score.metric = metric;
          upgrade_score(version, score);
          record.evaluation.push_back(std::move(score));
        });
      }
    }
  }
}

RunRecord read_parts(const Hdf5File& file, PartsReader& parts) {
  RunRecord record;
  record.config = read_text(file, "/config");
  parts.attempt("head", [&] { record.head = read_group<RecordHead>(file, "/"); });
  parts.attempt("/overrides", [&] { record.overrides = read_text(file, "/overrides"); });
  parts.attempt("/provenance", [&] { record.provenance = read_group<Provenance>(file, "/provenance"); });
  for (const std::string& stage : members(file, "/timing", parts)) {
    parts.attempt("/timing/" + stage,
                  [&] { record.seconds.emplace_back(stage, file.read<double>("/timing/" + stage).values.at(0)); });
  }
  for (std::size_t layer = 0; file.exists(layer_group(layer)); ++layer) {
    if (!parts.attempt(layer_group(layer),
                       [&] { record.compression.push_back(read_group<LayerRecord>(file, layer_group(layer))); }))
      break;
  }
  if (file.exists("/passes")) parts.attempt("/passes", [&] { record.passes = read_text(file, "/passes"); });
  if (file.exists("/training")) {
    parts.attempt("/training", [&] { record.training = read_group<TrainingSeries>(file, "/training"); });
  }
  for (const std::string& task : members(file, "/training_scores", parts)) {
    for (const std::string& metric : members(file, "/training_scores/" + task, parts)) {
      const std::string group = training_scores_group(task, metric);
      parts.attempt(group, [&] {
        record.training_scores.push_back(read_group<TrainingScores>(file, group));
        record.training_scores.back().task = task;
        record.training_scores.back().metric = metric;
      });
    }
  }
  read_scores(file, parts, record);
  for (const std::string& stage : members(file, "/cache", parts)) {
    parts.attempt("/cache/" + stage, [&] {
      record.cache.push_back(read_group<CacheRecord>(file, "/cache/" + stage));
      record.cache.back().stage = stage;
    });
  }
  for (const std::string& stage : members(file, "/cached_decoding", parts)) {
    for (const std::string& task : members(file, "/cached_decoding/" + stage, parts)) {
      parts.attempt(cat("/cached_decoding/", stage, "/", task), [&] {
        record.cached_decoding.push_back(
            read_group<CachedDecodingRecord>(file, cat("/cached_decoding/", stage, "/", task)));
        record.cached_decoding.back().stage = stage;
        record.cached_decoding.back().task = task;
      });
    }
  }
  return record;
}

/// Whether the file still ends in its checksum, and that does not fit: bytes within were changed, unlike in a file
/// whose end alone was cut off.
bool checksum_fails(const std::filesystem::path& file) {
  try {
    Hdf5File::is_sealed(file);
    return false;
  } catch (const DataError&) {
    return true;
  }
}

std::string joined(const std::vector<std::string>& names) {
  constexpr std::size_t kShown = 6;
  std::string text;
  for (std::size_t i = 0; i < names.size() && i < kShown; ++i) text += cat(i > 0 ? ", " : "", names[i]);
  return names.size() > kShown ? cat(text, " and ", names.size() - kShown, " more") : text;
}

}  // namespace

std::string salvage_record(const std::filesystem::path& damaged, const std::filesystem::path& out) {
  std::string image = read_file(damaged);
  const std::size_t size = image.size(), end = Hdf5File::content_size(image);
  if (end == 0) throw DataError("not an HDF5 file, or its first block is damaged");
  constexpr std::size_t kGrownMost = std::size_t{1} << 32;
  if (end > kGrownMost) throw DataError("its first block is damaged");
  image.resize(end, '\0');
  const Hdf5File file = Hdf5File::from_image(image, damaged.string());
  if (!file.has_attribute("/", "format")) throw DataError("an HDF5 file, but no run record");
  PartsReader parts;
  RunRecord record = read_parts(file, parts);
  std::string note;
  if (size < end) note = cat("cut after ", size, " of ", end, " bytes");
  if (!parts.lost().empty()) note += cat(note.empty() ? "" : "; ", "lost: ", joined(parts.lost()));
  if (note.empty() && checksum_fails(damaged)) note = "its checksum does not fit: some numbers may be wrong";
  if (!note.empty()) {
    record.head.status = RunStatus::kInterrupted;
    record.head.message = "repaired: " + note;
  }
  write_record(out, record);
  return note;
}

}  // namespace mla
