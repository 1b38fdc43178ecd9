#include "experiments/cell/cell_folder.h"

#include <unistd.h>

#include <algorithm>
#include <new>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/interrupt.h"
#include "core/base/log.h"
#include "experiments/cell/training_state_file.h"

namespace mla {
namespace {

constexpr const char* kRecord = "record";
constexpr const char* kPartial = "partial.h5";
constexpr const char* kStateEnding = ".safetensors";
constexpr const char* kMetrics = "metrics.jsonl";
constexpr const char* kActivity = "activity";
constexpr const char* kDamaged = ".damaged";

std::string state_file(const std::string& stage) { return stage + kStateEnding; }

/// Whether a file is a training state: of the last stage, or of another one (StagePlan::state).
bool is_training_state(const std::filesystem::path& file) {
  const std::string name = file.filename().string();
  return file.extension() == kStateEnding &&
         (name.starts_with("training_") || name.ends_with(std::string("training") + kStateEnding));
}

/// Whether something of that name is there; what cannot be looked at is.
bool is_there(const std::filesystem::path& file) {
  std::error_code error;
  const bool exists = std::filesystem::exists(file, error);
  return exists || error;
}

/// `read(file)` where the file exists and can be read; a damaged one costs a warning and is as good as none.
template <class Read>
auto read_if_there(const std::filesystem::path& file, const Read& read) -> std::optional<decltype(read(file))> {
  if (!is_there(file)) return {};
  try {
    return read(file);
  } catch (const std::bad_alloc&) {
    throw;  // says nothing of the file
  } catch (const std::exception& error) {
    log_warning(cat("not used: ", error.what()));
    return {};
  }
}

/// What a run goes on from: of measurements, of training, of evaluations.
std::vector<std::filesystem::path> progress_files(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> files;
  std::error_code missing;
  for (std::filesystem::directory_iterator it(folder, missing), end; !missing && it != end; it.increment(missing)) {
    const std::filesystem::path& file = it->path();
    const bool named = file.filename() == kPartial || is_training_state(file);
    if (named || file.extension() == ".journal" || file.extension() == kDamaged) files.push_back(file);
  }
  return files;
}

}  // namespace

CellFolder::CellFolder(const std::filesystem::path& results, const std::string& content_hash)
    : results_(results), path_(results / ".cells" / content_hash) {}

std::optional<std::filesystem::path> CellFolder::record() const {
  const auto relative = read_if_there(path_ / kRecord, read_file);
  if (!relative || !is_there(results_ / *relative)) return {};
  return results_ / *relative;
}

void CellFolder::remember_record(const std::filesystem::path& record) const {
  write_file_atomically(path_ / kRecord, std::filesystem::relative(record, results_).string());
}

std::optional<RunRecord> CellFolder::partial_record() const { return read_if_there(path_ / kPartial, read_record); }
void CellFolder::keep_partial_record(RunRecord record) const {
  check_held();
  record.head.status = RunStatus::kInterrupted;
  write_record(path_ / kPartial, record);
}

std::optional<TrainingState> CellFolder::training_state(const std::string& stage) const {
  const std::filesystem::path file = path_ / state_file(stage);
  auto state = read_if_there(file, read_training_state);
  if (!state && world().first() && is_there(file)) {
    // The next checkpoint would replace it, and with it what might still be saved.
    const std::filesystem::path aside = file.string() + kDamaged;
    if (std::rename(file.c_str(), aside.c_str()) == 0) log_warning(cat("kept aside: ", aside.string()));
  }
  return state;
}
void CellFolder::keep_training_state(const std::string& stage, const TrainingState& state) const {
  check_held();
  std::filesystem::create_directories(path_);
  write_training_state(path_ / state_file(stage), state);
}

void CellFolder::check_held() const {
  if (claim_ != nullptr && claim_->lost()) throw TakenOver(cat(path_.string(), ": another process has taken it over"));
}

std::filesystem::path CellFolder::metrics() const { return path_ / kMetrics; }

bool CellFolder::has_progress() const { return !progress_files(path_).empty(); }

KeptProgress CellFolder::kept() const {
  KeptProgress kept;
  for (const std::filesystem::path& file : progress_files(path_)) {
    std::error_code gone;
    const std::uintmax_t bytes = std::filesystem::file_size(file, gone);
    if (!gone) kept.bytes += bytes;
    if (!is_training_state(file)) continue;
    try {
      kept.steps += read_training_state(file).report.step.back() + 1;
    } catch (const std::exception&) {
      // damaged, or replaced this moment: whoever goes on from it says so
    }
  }
  return kept;
}

std::optional<std::filesystem::file_time_type> CellFolder::progress_time() const {
  std::optional<std::filesystem::file_time_type> latest;
  for (const std::filesystem::path& file : progress_files(path_)) {
    std::error_code gone;
    const auto written = std::filesystem::last_write_time(file, gone);
    if (!gone) latest = std::max(latest.value_or(written), written);
  }
  return latest;
}

bool CellFolder::is_tidy(bool progress) const {
  const auto kept = progress ? progress_files(path_) : std::vector<std::filesystem::path>();
  std::error_code missing;
  for (std::filesystem::directory_iterator it(path_, missing), end; !missing && it != end; it.increment(missing)) {
    const std::filesystem::path name = it->path().filename();
    if (name == kRecord || name == kMetrics) continue;
    if (std::find(kept.begin(), kept.end(), it->path()) == kept.end()) return false;
  }
  return true;
}

std::string CellFolder::activity() const { return read_if_there(path_ / kActivity, read_file).value_or(""); }

void CellFolder::show_activity(const std::string& line) const {
  if (claim_ != nullptr && claim_->known_lost()) return;
  // Without sync: losing it in a crash loses nothing.
  const std::filesystem::path temporary = temporary_name(path_ / kActivity);
  if (std::FILE* file = std::fopen(temporary.c_str(), "w")) {
    std::fputs(line.c_str(), file);
    std::fclose(file);
    std::rename(temporary.c_str(), (path_ / kActivity).c_str());
  }
}

void CellFolder::clear_activity() const { ::unlink((path_ / kActivity).c_str()); }

void CellFolder::remove_progress() const {
  for (const std::filesystem::path& file : progress_files(path_)) ::unlink(file.c_str());
  clear_activity();
}

}  // namespace mla
