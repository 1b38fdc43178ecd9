#include "experiments/sweep/finished_records.h"

#include <new>

#include "core/base/error.h"
#include "core/base/log.h"
#include "core/base/numerics_version.h"
#include "core/store/record_contents.h"
#include "core/store/record_file.h"
#include "experiments/cell/cell_folder.h"

namespace mla {
namespace {

using std::filesystem::path;

}  // namespace

bool holds_result(const path& file, const CellIdentity& identity, const SweepOptions& options) {
  std::error_code error;
  if (!std::filesystem::exists(file, error) && !error) return false;
  const RecordHead head = read_record_head(file);
  if (!identity.names(head.content_hash)) return false;
  const bool redo = options.force || (options.retry_failed && head.status == RunStatus::kFailed);
  return !redo || std::filesystem::last_write_time(file, error) >= options.started;
}

bool holds_failure(const path& file, const CellIdentity& identity) {
  try {
    const RecordHead head = read_record_head(file);
    return identity.names(head.content_hash) && head.status == RunStatus::kFailed;
  } catch (const std::exception&) {
    return false;  // missing, or damaged
  }
}

std::optional<path> record_of_content(const path& results, const CellIdentity& identity) {
  auto record = CellFolder(results, identity.hash).record();
  if (!record && !identity.earlier.empty()) record = CellFolder(results, identity.earlier).record();
  return record;
}

std::string remark_on(const RunRecord& record, const path& file) {
  std::string text;
  const std::int64_t version = record.provenance.numerics_version;
  if (version != kNumericsVersion)
    text = cat(", by a program of numerics version ", version, " (this one's is ", kNumericsVersion,
               "); --force runs it again");
  if (check_record(file).state == RecordState::kAnnotated) text += "; another program has added to its record";
  return text;
}

std::optional<RunRecord> FinishedRecords::record_at(const path& file, const CellIdentity& identity) {
  try {
    if (!holds_result(file, identity, options_)) return {};
    return read_record(file);
  } catch (const std::bad_alloc&) {
    throw;  // says nothing of the file
  } catch (const NewerRecord&) {
    throw;  // a result that this program must not write over
  } catch (const std::exception& error) {
    if (damaged_.insert(file).second) log_warning(cat("made again: ", error.what()));
    return {};
  }
}

std::optional<RunRecord> FinishedRecords::find(const CellPlan& cell, const CellIdentity& identity) {
  if (auto own = record_at(cell.record, identity)) return own;
  const auto elsewhere = record_of_content(cell.options.results, identity);
  auto record = elsewhere ? record_at(*elsewhere, identity) : std::nullopt;
  if (!record) return {};
  record->head.experiment = cell.options.name;
  record->head.cell = cell.name;
  record->config = cell.expanded;
  record->overrides = cell.overrides;
  write_record(cell.record, *record);
  return record;
}

}  // namespace mla
