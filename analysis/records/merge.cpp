#include "analysis/records/merge.h"

#include <map>

#include "analysis/records/record_set.h"
#include "core/base/error.h"
#include "core/base/file.h"

namespace mla {
namespace {

namespace fs = std::filesystem;

struct Copy {
  fs::path from, to;
  RecordHead head;
};

bool ended(const RecordHead& head) {
  return head.status == RunStatus::kComplete || head.status == RunStatus::kDiverged;
}

std::string folder_name(const LoadedRecord& record) {
  const std::string& experiment = record.outline.head.experiment;
  return experiment.empty() ? record.path.parent_path().filename().string() : experiment;
}

/// What is copied where; a run that is there already is left out.
std::vector<Copy> plan_copies(const RecordSet& set, const fs::path& output, bool rename, MergeReport& report) {
  std::map<fs::path, std::string> taken;  // target -> content hash
  std::vector<Copy> copies;
  for (const LoadedRecord& record : set.records) {
    const RecordHead& head = record.outline.head;
    fs::path target = output / folder_name(record) / record.path.filename();
    if (!taken.contains(target) && fs::exists(target)) taken[target] = read_outline(target).head.content_hash;
    const auto other = taken.find(target);
    if (other != taken.end() && other->second == head.content_hash) {
      ++report.already_there;
      continue;
    }
    if (other != taken.end()) {
      if (!rename) {
        throw DataError(cat(record.path.string(), ": another run of this name is or comes to ", target.string(),
                            "; --rename keeps both, nothing was written"));
      }
      target = target.parent_path() / cat(target.stem().string(), "@", head.content_hash.substr(0, 8), ".h5");
      if (fs::exists(target) || taken.contains(target)) {
        ++report.already_there;
        continue;
      }
    }
    taken[target] = head.content_hash;
    copies.push_back({record.path, target, head});
  }
  return copies;
}

/// OUTPUT/<experiment>/plan.json lists the cells of all inputs.
void unite_plan(const fs::path& folder, const std::vector<Copy>& copies) {
  const fs::path file = folder / "plan.json";
  Json plan =
      fs::exists(file) ? read_json(file) : Json{{"experiment", folder.filename().string()}, {"cells", Json::array()}};
  const auto add = [&](const std::string& name, const std::string& hash) {
    for (const Json& cell : plan["cells"]) {
      if (cell.value("cell", "") == name) return;
    }
    plan["cells"].push_back({{"cell", name}, {"content_hash", hash}});
  };
  for (const Copy& copy : copies) {
    if (copy.to.parent_path() != folder) continue;
    add(copy.to.stem().string(), copy.head.content_hash);
    const fs::path planned =
        copy.from.parent_path() / "plan.json";  // cells that are planned and not yet run stay planned
    if (!fs::exists(planned)) continue;
    const Json theirs = read_json(planned);
    for (const Json& cell : theirs.value("cells", Json::array()))
      add(cell.value("cell", ""), cell.value("content_hash", ""));
  }
  write_json(file, plan, 1);
}

}  // namespace

MergeReport merge_results(const std::vector<fs::path>& inputs, const fs::path& output, bool rename) {
  MergeReport report;
  const RecordSet set = read_records(inputs);
  report.skipped = skipped_notes(set);
  const std::vector<Copy> copies = plan_copies(set, output, rename, report);
  std::map<fs::path, bool> folders;
  for (const Copy& copy : copies) {
    write_file_atomically(copy.to, read_file(copy.from));
    folders[copy.to.parent_path()] = true;
    ++report.copied;
    const fs::path reference = output / ".cells" / copy.head.content_hash / "record";
    if (!ended(copy.head) || copy.head.content_hash.empty() || fs::exists(reference)) continue;
    write_file_atomically(reference, fs::relative(copy.to, output).string());
  }
  for (const auto& [folder, unused] : folders) unite_plan(folder, copies);
  return report;
}

}  // namespace mla
