// Whether results are whole: structure, checksums, agreement within a record, and completeness of experiments.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "core/base/json.h"

namespace mla {

struct Finding {
  std::filesystem::path path;
  std::string problem;
};

struct Verification {
  std::size_t records = 0;          ///< looked at
  std::vector<Finding> problems;    ///< what is wrong
  std::vector<Finding> incomplete;  ///< planned cells without a complete record, half-written files
  std::vector<Finding> annotated;   ///< records that another program has opened for writing, and what it added
  bool good() const { return problems.empty(); }
};

/// Reads every array of every record under `paths` (HDF5 and the file's own checksum are checked by that), and compares
/// plans with records. Throws DataError for a path that does not exist.
Verification verify_results(const std::vector<std::filesystem::path>& paths);

/// What is wrong within one record; empty when nothing is.
std::vector<std::string> verify_record(const std::filesystem::path& path);

/// What another program has done to a record that can be read, in words; "" where none has.
std::string annotation_of(const std::filesystem::path& path);

}  // namespace mla
