// What a results folder holds, for tests that compare runs.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "core/store/record.h"

namespace mla::test {

/// What a record says, without times and without who made it.
inline RunRecord timeless(RunRecord record) {
  record.head.created.clear();
  record.provenance = {};
  for (auto& [stage, seconds] : record.seconds) seconds = 0;
  return record;
}

inline std::map<std::string, RunRecord> records_in(const std::filesystem::path& folder) {
  std::map<std::string, RunRecord> records;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() == ".h5")
      records[entry.path().filename().string()] = timeless(read_record(entry.path()));
  }
  return records;
}

/// Everything in a results folder that is neither a record, nor a plan, nor a log, nor the metrics of a training, nor a
/// reference to a record.
inline std::vector<std::string> litter(const std::filesystem::path& results) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(results)) {
    const std::filesystem::path& file = entry.path();
    const bool expected = entry.is_directory() || file.extension() == ".h5" || file.filename() == "plan.json" ||
                          file.extension() == ".log" || file.filename() == "record" ||
                          file.filename() == "metrics.jsonl" || file.filename() == "statistics.safetensors";
    if (!expected || file.filename() == "partial.h5") names.push_back(file.string());
  }
  return names;
}

/// How often `part` stands in `text`.
inline std::size_t times(const std::string& text, const std::string& part) {
  std::size_t count = 0;
  for (std::size_t at = 0; (at = text.find(part, at)) != std::string::npos; ++at) ++count;
  return count;
}

}  // namespace mla::test
