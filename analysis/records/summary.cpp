#include "analysis/records/summary.h"

#include <fmt/format.h>

#include <algorithm>

namespace mla {
namespace {

/// The score of one stage as text with its error, or "" where there is none.
std::string score_text(const RecordOutline& record, const std::string& stage, const std::string& task,
                       const std::string& metric) {
  for (const ScoreOutline& score : record.evaluation) {
    if (score.stage != stage || score.task != task || score.metric != metric) continue;
    return score.standard_error ? fmt::format("{:.5g} ± {:.2g}", score.value, *score.standard_error)
                                : fmt::format("{:.5g}", score.value);
  }
  return "";
}

using Measured = std::vector<std::pair<std::string, std::string>>;

/// Task and metric, in the order met.
Measured measured_in(const RecordSet& set) {
  Measured measured;
  for (const LoadedRecord& record : set.records) {
    for (const ScoreOutline& score : record.outline.evaluation) {
      const std::pair key{score.task, score.metric};
      if (std::find(measured.begin(), measured.end(), key) == measured.end()) measured.push_back(key);
    }
  }
  return measured;
}

std::string name_of(const RecordOutline& record) { return record.head.experiment + "/" + record.head.cell; }

}  // namespace

void print_summary(const RecordSet& set, std::ostream& out) {
  std::size_t width = 4;
  for (const LoadedRecord& record : set.records) width = std::max(width, name_of(record.outline).size());
  for (const auto& [task, metric] : measured_in(set)) {
    out << fmt::format("{} {}\n{:<{}}  {:<9} {:>7}  {:>18}  {:>18}  {:>18}\n", task, metric, "cell", width, "status",
                       "cache %", "source", "converted", "fine-tuned");
    for (const LoadedRecord& loaded : set.records) {
      const RecordOutline& record = loaded.outline;
      out << fmt::format("{:<{}}  {:<9} {:>7.2f}  {:>18}  {:>18}  {:>18}\n", name_of(record), width,
                         status_name(record), 100 * cache_ratio(record), score_text(record, "source", task, metric),
                         score_text(record, "converted", task, metric), score_text(record, "fine_tuned", task, metric));
    }
    out << "\n";
  }
  const auto notes = skipped_notes(set);
  for (const std::string& note : notes) out << "skipped: " << note << "\n";
  for (const LoadedRecord& loaded : set.records) {
    const RecordOutline& record = loaded.outline;
    if (!record.head.message.empty()) out << record.head.cell << ": " << record.head.message << "\n";
  }
  out << set.records.size() << " records, " << notes.size() << " skipped\n";
}

Json summary_json(const RecordSet& set) {
  Json records = Json::array(), skipped = Json::array();
  for (const std::string& note : skipped_notes(set)) {
    const std::size_t colon = note.find(": ");
    skipped.push_back({{"path", note.substr(0, colon)}, {"problem", note}});
  }
  for (const LoadedRecord& loaded : set.records) {
    const RecordOutline& record = loaded.outline;
    Json scores = Json::array();
    for (const ScoreOutline& score : record.evaluation) {
      scores.push_back({{"stage", score.stage},
                        {"task", score.task},
                        {"metric", score.metric},
                        {"value", score.value},
                        {"standard_error", score.standard_error ? Json(*score.standard_error) : Json(nullptr)},
                        {"n", score.n}});
    }
    records.push_back({{"path", loaded.path.string()},
                       {"experiment", record.head.experiment},
                       {"cell", record.head.cell},
                       {"status", status_name(record)},
                       {"cache_ratio", cache_ratio(record)},
                       {"scores", scores}});
  }
  return {{"records", records}, {"skipped", skipped}};
}

}  // namespace mla
