#include "experiments/sweep/cell_folder.h"

#include <unistd.h>

#include <algorithm>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/log.h"
#include "experiments/sweep/training_state_file.h"

namespace mla {
namespace {

constexpr const char* kRecord = "record";
constexpr const char* kPartial = "partial.h5";
constexpr const char* kPartialRopeTraining = "partial_rope_training.safetensors";
constexpr const char* kTraining = "training.safetensors";
constexpr const char* kProgress[] = {kPartial, kPartialRopeTraining, kTraining};  ///< what a run goes on from
constexpr const char* kActivity = "activity";

const char* state_file(TrainingStage stage) { return stage == TrainingStage::kLast ? kTraining : kPartialRopeTraining; }

/// `read(file)` where the file exists and can be read; a damaged one costs a warning and is as good as none.
template <class Read>
auto read_if_there(const std::filesystem::path& file, const Read& read) -> std::optional<decltype(read(file))> {
  if (!std::filesystem::exists(file)) return {};
  try {
    return read(file);
  } catch (const std::exception& error) {
    log_warning(cat("not used: ", error.what()));
    return {};
  }
}

/// What evaluations have kept in a folder.
std::vector<std::filesystem::path> evaluation_journals(const std::filesystem::path& folder) {
  std::vector<std::filesystem::path> files;
  std::error_code missing;
  for (const auto& entry : std::filesystem::directory_iterator(folder, missing)) {
    if (entry.path().extension() == ".journal") files.push_back(entry.path());
  }
  return files;
}

}  // namespace

CellFolder::CellFolder(const std::filesystem::path& results, const std::string& content_hash)
    : results_(results), path_(results / ".cells" / content_hash) {}

std::optional<std::filesystem::path> CellFolder::record() const {
  const auto relative = read_if_there(path_ / kRecord, read_file);
  if (!relative || !std::filesystem::exists(results_ / *relative)) return {};
  return results_ / *relative;
}

void CellFolder::remember_record(const std::filesystem::path& record) const {
  write_file_atomically(path_ / kRecord, std::filesystem::relative(record, results_).string());
}

std::optional<RunRecord> CellFolder::partial_record() const { return read_if_there(path_ / kPartial, read_record); }
void CellFolder::keep_partial_record(RunRecord record) const {
  record.head.status = RunStatus::kInterrupted;
  write_record(path_ / kPartial, record);
}

std::optional<TrainingState> CellFolder::training_state(TrainingStage stage) const {
  return read_if_there(path_ / state_file(stage), read_training_state);
}
void CellFolder::keep_training_state(TrainingStage stage, const TrainingState& state) const {
  std::filesystem::create_directories(path_);
  write_training_state(path_ / state_file(stage), state);
}

bool CellFolder::has_progress() const {
  return !evaluation_journals(path_).empty() ||
         std::ranges::any_of(kProgress, [&](const char* name) { return std::filesystem::exists(path_ / name); });
}

bool CellFolder::is_tidy() const {
  std::error_code missing;
  const std::filesystem::directory_iterator entries(path_, missing);
  return std::all_of(begin(entries), end(entries),
                     [](const auto& entry) { return entry.path().filename() == kRecord; });
}

std::string CellFolder::activity() const { return read_if_there(path_ / kActivity, read_file).value_or(""); }

void CellFolder::show_activity(const std::string& line) const {
  // Without sync: losing it in a crash loses nothing.
  const std::filesystem::path temporary = temporary_name(path_ / kActivity);
  if (std::FILE* file = std::fopen(temporary.c_str(), "w")) {
    std::fputs(line.c_str(), file);
    std::fclose(file);
    std::rename(temporary.c_str(), (path_ / kActivity).c_str());
  }
}

void CellFolder::remove_progress() const {
  for (const std::filesystem::path& journal : evaluation_journals(path_)) ::unlink(journal.c_str());
  for (const char* name : kProgress) ::unlink((path_ / name).c_str());
  ::unlink((path_ / kActivity).c_str());
}

}  // namespace mla
