// Records of models that a command measures by themselves, without an experiment around them.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "core/model/decoder.h"
#include "core/store/record.h"
#include "experiments/cli/command.h"
#include "experiments/model/placement_options.h"

namespace mla {

/// The stage under which they stand in records: nothing was done to the model.
inline constexpr const char* kMeasuredStage = "source";

/// The files of --output: reports (.json) and records (.h5), one of each, say.
class OutputFiles {
 public:
  /// Declares the option; `report` says what stands in a report.
  void declare(OptionList& options, const std::string& report);
  bool wants_report() const { return !of_kind(false).empty(); }
  bool wants_record() const { return !of_kind(true).empty(); }
  void write_report(const Json& report, int indent = -1) const;
  void write_record(const RunRecord& record, Console& console) const;

 private:
  std::vector<std::filesystem::path> of_kind(bool record) const;
  std::vector<std::string> files_;
};

/// What was measured of a model.
struct Measurement {
  std::string command;  ///< names the record's experiment
  std::filesystem::path model;
  PlacementOptions placement;
  std::string subject;           ///< on what: names the record's cell, after the model
  Json config = Json::object();  ///< besides the model: "evaluate", as in an experiment's config
  std::map<std::string, std::filesystem::path> inputs = {};  ///< that were read, by role, the model's files apart
  std::uint64_t seed = 0;
};

/// A record with a config like an experiment's, so that tables group it like one, and with the bytes of the cache of
/// `decoder` (null: not measured). Scores are the caller's to add.
RunRecord record_of(const Measurement& measurement, const Decoder* decoder, const Console& console);

}  // namespace mla
