#include "analysis/records/verify.h"

#include <cmath>
#include <map>
#include <set>

#include "analysis/records/record_set.h"
#include "core/base/error.h"
#include "core/base/file.h"
#include "core/store/hdf5_file.h"
#include "core/store/record.h"
#include "core/store/record_contents.h"

namespace mla {
namespace {

namespace fs = std::filesystem;

void check_training(const RunRecord& record, std::vector<std::string>& problems) {
  const TrainingSeries& training = record.training;
  const std::size_t length = training.step.size();
  for (const auto& [name, size] : {std::pair{"tokens", training.tokens.size()}, std::pair{"loss", training.loss.size()},
                                   std::pair{"learning_rate", training.learning_rate.size()},
                                   std::pair{"gradient_norm", training.gradient_norm.size()}}) {
    if (size != length && size != 0)
      problems.push_back(cat("/training/", name, " has ", size, " entries, /training/step ", length));
  }
  for (std::size_t i = 1; i < length; ++i) {
    if (training.step[i] > training.step[i - 1]) continue;
    problems.push_back(cat("/training/step falls from ", training.step[i - 1], " to ", training.step[i]));
    break;
  }
  if (record.head.status != RunStatus::kComplete) return;
  for (const double loss : training.loss) {
    if (std::isfinite(loss)) continue;
    problems.emplace_back("/training/loss is not finite, and the status is complete");
    break;
  }
}

void check_scores(const RunRecord& record, std::vector<std::string>& problems) {
  for (const ScoreRecord& score : record.evaluation) {
    const std::string group = score_group(score.stage, score.task, score.metric);
    if (!std::isfinite(score.value) && record.head.status == RunStatus::kComplete)
      problems.push_back(group + ": the value is not finite");
    if (score.n < 0) problems.push_back(cat(group, ": n is ", score.n));
  }
}

void check_cache(const RunRecord& record, std::vector<std::string>& problems) {
  for (const CacheRecord& cache : record.cache) {
    if (cache.predicted_bytes == cache.counted_bytes) continue;
    problems.push_back(cat("/cache/", cache.stage, ": ", cache.predicted_bytes, " bytes predicted, ",
                           cache.counted_bytes, " counted"));
  }
}

/// The note, from which tables are made, says what the groups say.
void check_outline(const fs::path& path, std::vector<std::string>& problems) {
  OutlineParts all;
  all.provenance = true;
  RecordOutline note = read_outline(path, all);
  if (outline_to_json(note).dump() != outline_to_json(read_outline_from_groups(path, all)).dump()) {
    problems.emplace_back(
        "the outline after the HDF5 content differs from the content; tables are made from the outline");
  }
}

/// Experiments by their plans: RESULTS/<experiment>/plan.json lists cells with their content hashes.
void check_plan(const fs::path& plan_file, Verification& verification) {
  Json plan;
  try {
    plan = read_json(plan_file);
    for (const Json& cell : plan.at("cells")) {
      const std::string name = cell.at("cell"), hash = cell.at("content_hash");
      const fs::path record = plan_file.parent_path() / (name + ".h5");
      if (!fs::exists(record)) {
        verification.incomplete.push_back({record, "planned, but there is no record"});
        continue;
      }
      RecordHead head;
      try {
        head = read_outline(record).head;
      } catch (const DataError&) {
        continue;  // told with the record
      }
      if (head.content_hash != hash)
        verification.incomplete.push_back(
            {record, cat("is of content hash ", head.content_hash, ", the plan wants ", hash)});
      if (head.status == RunStatus::kFailed || head.status == RunStatus::kInterrupted) {
        verification.incomplete.push_back({record, detail::write_enum(head.status)});
      }
    }
  } catch (const Json::exception& error) {
    verification.problems.push_back({plan_file, cat("malformed: ", error.what())});
  } catch (const DataError& error) {
    verification.problems.push_back({plan_file, error.what()});
  }
}

/// The references of RESULTS/.cells, by which a run knows what is complete.
void check_references(const fs::path& results, Verification& verification) {
  std::error_code error;
  for (const auto& cell : fs::directory_iterator(results / ".cells", error)) {
    const fs::path reference = cell.path() / "record";
    if (!fs::exists(reference)) continue;
    const fs::path record = results / read_file(reference);
    if (!fs::exists(record))
      verification.incomplete.push_back({reference, cat("names a record that is gone: ", record.string())});
  }
}

std::string without_path(const std::string& message, const fs::path& path) {
  const std::string prefix = path.string() + ": ";
  return message.starts_with(prefix) ? message.substr(prefix.size()) : message;
}

}  // namespace

std::vector<std::string> verify_record(const fs::path& path) {
  std::vector<std::string> problems;
  try {
    const RunRecord record = read_record(path);
    check_training(record, problems);
    check_scores(record, problems);
    check_cache(record, problems);
    check_outline(path, problems);
  } catch (const DataError& error) {
    problems.push_back(without_path(error.what(), path));
  }
  return problems;
}

std::string annotation_of(const fs::path& path) {
  constexpr std::size_t kShown = 6;
  const RecordCheck check = check_record(path);
  if (check.state == RecordState::kWhole) return "";
  if (check.state == RecordState::kUnchecked)
    return "another program has opened it for writing; it is of before records held a checksum inside, so that what "
           "was "
           "changed cannot be told";
  if (check.added.empty()) return "another program has opened it for writing, and changed nothing";
  std::string text = cat(check.added.size(), " additions by another program, all else as it was written: ");
  for (std::size_t i = 0; i < check.added.size() && i < kShown; ++i) {
    const std::string& name = check.added[i];
    text += cat(i > 0 ? ", " : "", name.size() > 80 ? name.substr(0, 77) + "…" : name);
  }
  return check.added.size() > kShown ? cat(text, " and ", check.added.size() - kShown, " more") : text;
}

Verification verify_results(const std::vector<fs::path>& paths) {
  Verification verification;
  const RecordFiles files = find_records(paths);
  std::set<fs::path> folders, results;
  for (const fs::path& path : files.records) {
    ++verification.records;
    const std::vector<std::string> problems = verify_record(path);
    for (const std::string& problem : problems) verification.problems.push_back({path, problem});
    if (const std::string note = problems.empty() ? annotation_of(path) : ""; !note.empty())
      verification.annotated.push_back({path, note});
    folders.insert(path.parent_path());
  }
  for (const fs::path& path : paths) {
    if (!fs::is_directory(path)) continue;
    results.insert(path);
    for (const auto& entry : fs::recursive_directory_iterator(path, fs::directory_options::skip_permission_denied)) {
      if (entry.path().filename() == "plan.json") folders.insert(entry.path().parent_path());
    }
  }
  for (const fs::path& folder : folders) {
    if (fs::exists(folder / "plan.json")) check_plan(folder / "plan.json", verification);
  }
  for (const fs::path& folder : results) check_references(folder, verification);
  for (const fs::path& path : files.temporary)
    verification.incomplete.push_back({path, "half-written: by a run that still works on it, or has died"});
  return verification;
}

}  // namespace mla
