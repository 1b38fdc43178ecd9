// Records in long form: one observation per line, for pandas, R and databases.
#pragma once

#include <filesystem>
#include <ostream>
#include <string>
#include <vector>

namespace mla {

/// What lines are made of: scores, samples, training, training_scores, layers, spectra, numbers.
const std::vector<std::string>& export_kinds();

struct ExportOptions {
  std::string what = "scores";
  std::string format = "csv";  ///< csv, json (one array) or jsonl (one object per line)
};

/// Writes the lines of all records under `paths` to `out`, one record at a time; returns notes on what was skipped.
/// Every line names its record (experiment, cell, status, content_hash, and what distinguishes the cell, one column per
/// config path), so that each column has one type throughout. Throws ConfigError for an unknown kind or format.
std::vector<std::string> export_records(const std::vector<std::filesystem::path>& paths, const ExportOptions& options,
                                        std::ostream& out);

}  // namespace mla
