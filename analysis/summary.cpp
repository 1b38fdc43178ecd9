#include "analysis/summary.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "core/base/error.h"
#include "core/base/fields.h"

namespace mla {
namespace {

namespace fs = std::filesystem;

std::vector<fs::path> records_under(const fs::path& path) {
  if (!fs::exists(path)) throw DataError(cat(path.string(), ": no such file or folder"));
  if (!fs::is_directory(path)) return {path};
  std::vector<fs::path> files;
  for (const auto& entry : fs::recursive_directory_iterator(path)) {
    if (entry.is_regular_file() && entry.path().extension() == ".h5") files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

std::string status_of(const SummaryEntry& entry) { return detail::write_enum(entry.record.head.status); }

/// The score of one stage as text with its error, or "" where there is none.
std::string score_text(const RunRecord& record, const std::string& stage, const std::string& task, const std::string& metric) {
  for (const ScoreRecord& score : record.evaluation) {
    if (score.stage != stage || score.task != task || score.metric != metric) continue;
    return score.standard_error ? fmt::format("{:.5g} ± {:.2g}", score.value, *score.standard_error) : fmt::format("{:.5g}", score.value);
  }
  return "";
}

}  // namespace

double cache_ratio(const RunRecord& record) {
  double before = 0, after = 0;
  for (const LayerRecord& layer : record.compression) {
    before += static_cast<double>(layer.cached_elements_before);
    after += static_cast<double>(layer.cached_elements);
  }
  return before > 0 ? after / before : 1;
}

Summary summarize(const std::vector<fs::path>& paths) {
  Summary summary;
  for (const fs::path& path : paths) {
    for (const fs::path& file : records_under(path)) {
      SummaryEntry entry{file, {}, {}};
      try {
        entry.record = read_record(file);
      } catch (const DataError& error) {
        entry.problem = error.what();
      }
      summary.entries.push_back(std::move(entry));
    }
  }
  return summary;
}

void print(const Summary& summary, std::ostream& out) {
  std::vector<std::pair<std::string, std::string>> measured;  // task and metric, in the order met
  std::size_t width = 4, skipped = 0;
  for (const SummaryEntry& entry : summary.entries) {
    if (!entry.problem.empty()) {
      ++skipped;
      continue;
    }
    width = std::max(width, entry.record.head.experiment.size() + 1 + entry.record.head.cell.size());
    for (const ScoreRecord& score : entry.record.evaluation) {
      const std::pair key{score.task, score.metric};
      if (std::find(measured.begin(), measured.end(), key) == measured.end()) measured.push_back(key);
    }
  }
  for (const auto& [task, metric] : measured) {
    out << fmt::format("{} {}\n{:<{}}  {:<9} {:>7}  {:>18}  {:>18}  {:>18}\n", task, metric, "cell", width, "status", "cache %", "source",
                       "converted", "fine-tuned");
    for (const SummaryEntry& entry : summary.entries) {
      if (!entry.problem.empty()) continue;
      const RunRecord& record = entry.record;
      out << fmt::format("{:<{}}  {:<9} {:>7.2f}  {:>18}  {:>18}  {:>18}\n", record.head.experiment + "/" + record.head.cell, width,
                         status_of(entry), 100 * cache_ratio(record), score_text(record, "source", task, metric),
                         score_text(record, "converted", task, metric), score_text(record, "fine_tuned", task, metric));
    }
    out << "\n";
  }
  for (const SummaryEntry& entry : summary.entries) {
    if (!entry.problem.empty()) out << "skipped: " << entry.problem << "\n";
    if (!entry.record.head.message.empty()) out << entry.record.head.cell << ": " << entry.record.head.message << "\n";
  }
  out << summary.entries.size() - skipped << " records, " << skipped << " skipped\n";
}

Json to_json(const Summary& summary) {
  Json records = Json::array(), skipped = Json::array();
  for (const SummaryEntry& entry : summary.entries) {
    if (!entry.problem.empty()) {
      skipped.push_back({{"path", entry.path.string()}, {"problem", entry.problem}});
      continue;
    }
    Json scores = Json::array();
    for (const ScoreRecord& score : entry.record.evaluation) {
      scores.push_back({{"stage", score.stage}, {"task", score.task}, {"metric", score.metric}, {"value", score.value},
                        {"standard_error", score.standard_error ? Json(*score.standard_error) : Json(nullptr)}, {"n", score.n}});
    }
    records.push_back({{"path", entry.path.string()}, {"experiment", entry.record.head.experiment},
                       {"cell", entry.record.head.cell}, {"status", status_of(entry)},
                       {"cache_ratio", cache_ratio(entry.record)}, {"scores", scores}});
  }
  return {{"records", records}, {"skipped", skipped}};
}

}  // namespace mla
