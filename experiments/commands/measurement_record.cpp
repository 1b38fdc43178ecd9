#include "experiments/commands/measurement_record.h"

#include <ATen/Parallel.h>

#include "core/base/fields.h"
#include "core/base/hash.h"
#include "core/base/provenance.h"
#include "experiments/cell/measure_cache.h"
#include "experiments/commands/run_provenance.h"
#include "experiments/data/token_data.h"
#include "experiments/model/model_files.h"

namespace mla {
namespace {

constexpr const char* kRecordEnding = ".h5";

/// What a result depends on: the hashes of files stand for their names.
void erase_names(Json& value) {
  if (value.is_object()) {
    for (const char* key : {"path", "files", "items", "few_shot_items"}) value.erase(key);
  }
  for (Json& member : value) {
    if (member.is_structured()) erase_names(member);
  }
}

}  // namespace

void OutputFiles::declare(OptionList& options, const std::string& report) {
  options.add("output,o", files_, "FILE",
              cat("write ", report,
                  " to this .json file, or the scores with their samples to this .h5 record; may be repeated"));
  options.renamed("record", "output");
}

std::vector<std::filesystem::path> OutputFiles::of_kind(bool record) const {
  std::vector<std::filesystem::path> found;
  for (const std::string& file : files_) {
    if ((std::filesystem::path(file).extension() == kRecordEnding) == record) found.emplace_back(file);
  }
  return found;
}

void OutputFiles::write_report(const Json& report, int indent) const {
  for (const auto& file : of_kind(false)) write_json(file, report, indent);
}

void OutputFiles::write_record(const RunRecord& record, Console& console) const {
  for (const auto& file : of_kind(true)) {
    mla::write_record(file, record);
    console.text() << "record: " << file.string() << '\n';
  }
}

RunRecord record_of(const Measurement& measurement, const Decoder* decoder, const Console& console) {
  const PlacementOptions& placement = measurement.placement;
  const std::filesystem::path name = std::filesystem::weakly_canonical(measurement.model).filename();
  RunRecord record;
  record.head.experiment = measurement.command;
  record.head.cell = cat(name.string(), measurement.subject.empty() ? "" : " ", measurement.subject);
  record.head.created = utc_now();
  record.config = {{"name", measurement.command},
                   {"model", {{"path", measurement.model.string()}, {"weights", placement.weights}}},
                   {"dtype", placement.dtype},
                   {"device", placement.device},
                   {"products", placement.used_products()}};
  record.config.update(measurement.config);
  record.overrides = Json::object();
  record.provenance = provenance_of(console);
  record.provenance.seed = measurement.seed;
  record.provenance.threads = at::get_num_threads();
  record.provenance.device = placement.device;
  for (const auto& [role, file] : files_of_model(measurement.model, "model"))
    record.provenance.data_hashes[role] = hash_data_file(file);
  for (const auto& [role, file] : measurement.inputs) record.provenance.data_hashes[role] = hash_data_file(file);
  Json identity = record.config;
  erase_names(identity);
  record.head.content_hash = hash_json(
      {{"measured", identity}, {"subject", measurement.subject}, {"data_hashes", record.provenance.data_hashes}});
  if (decoder != nullptr) record.cache.push_back(measure_cache(*decoder, kMeasuredStage));
  return record;
}

}  // namespace mla
