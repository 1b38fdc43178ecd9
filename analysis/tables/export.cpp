#include "analysis/tables/export.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "analysis/records/dimension.h"
#include "analysis/records/record_set.h"
#include "analysis/tables/text_table.h"
#include "core/base/error.h"
#include "core/base/suggest.h"
#include "core/store/field_group.h"
#include "core/store/hdf5_file.h"
#include "core/store/record_file.h"

namespace mla {
namespace {

using Line = std::vector<Json>;

/// Writes lines of equal columns in one of the formats.
class LineWriter {
 public:
  LineWriter(std::ostream& out, std::string format, std::vector<std::string> columns)
      : out_(out), format_(std::move(format)), columns_(std::move(columns)) {
    if (format_ == "json") out_ << "[";
    if (format_ != "csv") return;
    for (std::size_t i = 0; i < columns_.size(); ++i) out_ << (i > 0 ? "," : "") << csv_text(columns_[i]);
    out_ << "\n";
  }

  void write(const Line& line) {
    if (format_ == "csv") {
      for (std::size_t i = 0; i < line.size(); ++i) out_ << (i > 0 ? "," : "") << csv_field(line[i]);
      out_ << "\n";
      return;
    }
    Json object = Json::object();
    for (std::size_t i = 0; i < line.size(); ++i) object[columns_[i]] = line[i];
    if (format_ == "json") out_ << (count_ > 0 ? ",\n " : "\n ");
    out_ << object.dump(-1, ' ', false, Json::error_handler_t::replace);
    if (format_ == "jsonl") out_ << "\n";
    ++count_;
  }

  void finish() {
    if (format_ == "json") out_ << "\n]\n";
  }

 private:
  static std::string csv_field(const Json& value) {
    if (value.is_number_float())
      return std::isfinite(value.get<double>()) ? fmt::format("{}", value.get<double>()) : cat(value.get<double>());
    return csv_text(plain_text(value));
  }

  std::ostream& out_;
  std::string format_;
  std::vector<std::string> columns_;
  std::size_t count_ = 0;
};

/// Config paths that distinguish cells, in the order met.
std::vector<std::string> override_paths(const RecordSet& set) {
  std::vector<std::string> paths;
  for (const LoadedRecord& record : set.records) {
    for (const auto& [path, unused] : record.outline.overrides.items()) {
      if (std::find(paths.begin(), paths.end(), path) == paths.end()) paths.push_back(path);
    }
  }
  return paths;
}

Line identity_of(const LoadedRecord& record, const std::vector<std::string>& paths) {
  const RecordHead& head = record.outline.head;
  const Observation last{&record, stage_of(record.outline, ""), false};
  Line line = {head.experiment, head.cell, status_name(record.outline), head.content_hash, dimension(last, "model")};
  for (const std::string& path : paths) {
    const auto found = record.outline.overrides.find(path);
    line.push_back(found == record.outline.overrides.end() ? Json()
                   : found->is_structured()                ? Json(found->dump())
                                                           : *found);
  }
  return line;
}

using Emit = std::function<void(const Line&)>;

void export_scores(const LoadedRecord& record, const Emit& emit) {
  for (const ScoreOutline& score : record.outline.evaluation) {
    emit({score.stage, score.task, score.metric, score.value,
          score.standard_error ? Json(*score.standard_error) : Json(), score.n, score.unit, score.higher_is_better});
  }
}

void export_samples(const LoadedRecord& record, const Emit& emit) {
  std::vector<std::string> paths;
  for (const ScoreOutline& score : record.outline.evaluation)
    paths.push_back(score_group(score.stage, score.task, score.metric) + "/per_sample");
  const auto arrays = read_arrays(record.path, paths);
  for (std::size_t i = 0; i < arrays.size(); ++i) {
    const ScoreOutline& score = record.outline.evaluation[i];
    for (std::size_t sample = 0; sample < arrays[i].size(); ++sample)
      emit({score.stage, score.task, score.metric, sample, arrays[i][sample]});
  }
}

void export_training(const LoadedRecord& record, const Emit& emit) {
  const auto series = read_arrays(record.path, {"/training/step", "/training/tokens", "/training/loss",
                                                "/training/learning_rate", "/training/gradient_norm"});
  for (std::size_t i = 0; i < series[0].size(); ++i) {
    const auto at = [&](std::size_t which) { return i < series[which].size() ? Json(series[which][i]) : Json(); };
    emit({static_cast<std::int64_t>(series[0][i]), static_cast<std::int64_t>(i < series[1].size() ? series[1][i] : 0),
          at(2), at(3), at(4)});
  }
}

void export_training_scores(const LoadedRecord& record, const Emit& emit) {
  const Hdf5File file = open_record(record.path);
  for (const std::string& task : member_groups(file, "/training_scores")) {
    for (const std::string& metric : described_groups(file, "/training_scores/" + task)) {
      const auto scores = read_group<TrainingScores>(file, training_scores_group(task, metric));
      for (std::size_t i = 0; i < std::min(scores.step.size(), scores.value.size()); ++i)
        emit({task, metric, scores.step[i], scores.value[i], scores.unit});
    }
  }
}

void export_layers(const LoadedRecord& record, const Emit& emit) {
  for (std::size_t layer = 0; layer < record.outline.layers.size(); ++layer) {
    for (const auto& [name, value] : record.outline.layers[layer].items()) {
      if (value.is_number()) emit({layer, name, value.get<double>()});
    }
  }
}

void export_spectra(const LoadedRecord& record, const Emit& emit) {
  std::vector<std::string> paths;
  for (std::size_t layer = 0; layer < record.outline.layers.size(); ++layer) {
    for (const char* name : {"/singular_values", "/value_singular_values"}) paths.push_back(layer_group(layer) + name);
  }
  const auto arrays = read_arrays(record.path, paths);
  for (std::size_t i = 0; i < arrays.size(); ++i) {
    for (std::size_t rank = 0; rank < arrays[i].size(); ++rank) {
      emit({i / 2, i % 2 == 0 ? "singular_values" : "value_singular_values", rank + 1, arrays[i][rank]});
    }
  }
}

/// Numbers of a run that stand alone, by path.
void export_numbers(const LoadedRecord& record, const Emit& emit) {
  for (const auto& [stage, seconds] : record.outline.seconds) emit({"/timing/" + stage, seconds});
  for (const CacheRecord& cache : record.outline.cache) {
    emit({cat("/cache/", cache.stage, "@tokens"), static_cast<double>(cache.tokens)});
    emit({cat("/cache/", cache.stage, "@counted_bytes"), static_cast<double>(cache.counted_bytes)});
  }
  for (const auto& [path, value] : record.outline.others) emit({path, value});
}

struct Kind {
  std::string name;
  std::vector<std::string> columns;
  void (*run)(const LoadedRecord&, const Emit&);
};

const std::vector<Kind>& kinds() {
  static const std::vector<Kind> all = {
      {"scores",
       {"stage", "task", "metric", "value", "standard_error", "n", "unit", "higher_is_better"},
       export_scores},
      {"samples", {"stage", "task", "metric", "sample", "value"}, export_samples},
      {"training", {"step", "tokens", "loss", "learning_rate", "gradient_norm"}, export_training},
      {"training_scores", {"task", "metric", "step", "value", "unit"}, export_training_scores},
      {"layers", {"layer", "name", "value"}, export_layers},
      {"spectra", {"layer", "matrix", "rank", "value"}, export_spectra},
      {"numbers", {"path", "value"}, export_numbers}};
  return all;
}

}  // namespace

const std::vector<std::string>& export_kinds() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> all;
    for (const Kind& kind : kinds()) all.push_back(kind.name);
    return all;
  }();
  return names;
}

std::vector<std::string> export_records(const std::vector<std::filesystem::path>& paths, const ExportOptions& options,
                                        std::ostream& out) {
  const auto kind =
      std::find_if(kinds().begin(), kinds().end(), [&](const Kind& each) { return each.name == options.what; });
  if (kind == kinds().end()) throw ConfigError(cat("--what: ", unknown_name(options.what, export_kinds())));
  const std::vector<std::string> formats = {"csv", "json", "jsonl"};
  if (std::find(formats.begin(), formats.end(), options.format) == formats.end())
    throw ConfigError(cat("--format: ", unknown_name(options.format, formats)));
  const RecordSet set = read_records(paths);
  const std::vector<std::string> overrides = override_paths(set);
  std::vector<std::string> columns = {"experiment", "cell", "status", "content_hash", "model"};
  columns.insert(columns.end(), overrides.begin(), overrides.end());
  columns.insert(columns.end(), kind->columns.begin(), kind->columns.end());
  LineWriter writer(out, options.format, columns);
  std::vector<std::string> notes = skipped_notes(set);
  for (const LoadedRecord& record : set.records) {
    const Line identity = identity_of(record, overrides);
    try {
      kind->run(record, [&](const Line& rest) {
        Line line = identity;
        line.insert(line.end(), rest.begin(), rest.end());
        writer.write(line);
      });
    } catch (const DataError& error) {
      notes.emplace_back(error.what());
    }
  }
  writer.finish();
  return notes;
}

}  // namespace mla
