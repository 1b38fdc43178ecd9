#include "analysis/records/mixed_programs.h"

#include <algorithm>
#include <map>

#include "core/base/error.h"

namespace mla {
namespace {

/// "0123456789", or "0123456789 with changes" for sources that were changed since the commit.
std::string commit_of(const RecordOutline& record) {
  constexpr std::size_t kShown = 10;
  const Json hash = record.provenance.value("git_hash", Json());
  if (!hash.is_string() || hash.get<std::string>().empty()) return "unknown";
  const Json dirty = record.provenance.value("git_dirty", Json(false));
  return hash.get<std::string>().substr(0, kShown) + (dirty == true ? " with changes" : "");
}

/// "1 (3 records), 2 (4)", the most frequent first.
template <class Key>
std::string counts_text(const std::map<Key, std::size_t>& counts) {
  constexpr std::size_t kMost = 6;
  std::vector<std::pair<Key, std::size_t>> sorted(counts.begin(), counts.end());
  std::stable_sort(sorted.begin(), sorted.end(), [](const auto& a, const auto& b) { return a.second > b.second; });
  std::string text;
  for (std::size_t i = 0; i < sorted.size() && i < kMost; ++i)
    text += cat(i > 0 ? ", " : "", sorted[i].first, " (", sorted[i].second, i > 0 ? ")" : " records)");
  return sorted.size() > kMost ? cat(text, " and ", sorted.size() - kMost, " more") : text;
}

}  // namespace

std::int64_t numerics_version(const RecordOutline& record) {
  const auto found = record.provenance.find("numerics_version");
  return found != record.provenance.end() && found->is_number_integer() ? found->get<std::int64_t>() : 1;
}

std::string mixed_programs(const std::vector<const LoadedRecord*>& records) {
  std::map<std::int64_t, std::size_t> versions;
  std::map<std::string, std::size_t> commits;
  for (const LoadedRecord* record : records) {
    ++versions[numerics_version(record->outline)];
    ++commits[commit_of(record->outline)];
  }
  std::string text;
  if (versions.size() > 1) text = "numerics versions " + counts_text(versions) + ", whose numbers differ";
  if (commits.size() > 1) text += cat(text.empty() ? "" : "; ", "commits ", counts_text(commits));
  return text.empty() ? "" : "records of several programs: " + text;
}

}  // namespace mla
