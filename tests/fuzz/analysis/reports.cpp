// Reports over records whose configs say what no run would have written.
#include "core/base/error.h"
#include "core/store/record.h"
#include "tests/analysis/run_report.h"
#include "tests/analysis/synthetic_records.h"
#include "tests/fuzz/support/input_files.h"
#include "tests/fuzz/support/target.h"

namespace mla::fuzz {
namespace {

void run_one(const std::vector<std::string>& arguments) {
  const test::ReportResult result = test::run_report(arguments);
  if (result.exit_code == 0) return;
  promise(result.exit_code >= 1 && result.exit_code <= 3,
          cat("exit code ", result.exit_code, ": ", result.err.substr(0, 500)));
}

std::vector<std::string> report_seeds() {
  std::vector<std::string> seeds;
  for (const RunRecord& record : {test::synthetic_record({}), test::synthetic_baseline(1)})
    seeds.push_back(Json({{"config", record.config}, {"overrides", record.overrides}}).dump());
  Json cached = Json::parse(seeds.front());
  cached["config"]["cache"] = {{"codec", {{"name", "rtn"}, {"bits", 4}}}, {"rope_keys", false}};
  seeds.push_back(cached.dump());
  return seeds;
}

/// The input is a record's config and overrides; the rest of the record is whole.
void run_reports(std::string_view input) {
  const Json said = parse_json(std::string(input), "input");
  if (!said.is_object()) return;
  RunRecord record = test::synthetic_record({});
  record.config = said.value("config", Json());
  record.overrides = said.value("overrides", Json());
  const auto path = input_file("report/sweep/record.h5", "");
  write_record(path, record);
  const std::string folder = path.parent_path().parent_path().string();
  for (const char* command : {"table", "show"}) run_one({command, folder});
  run_one({"table", folder, "--row", "rope", "--row", "codec", "--row", "low_rank", "--row", "settings", "--row",
           "method"});
}

const Registration kReports({"reports",
                             run_reports,
                             report_seeds,
                             {"compress", "rope", "low_rank", "name", "pairs", "d_kv", "cache", "codec", "bits",
                              "train", "steps", "seed", "model", "path", "evaluate"},
                             40});

}  // namespace
}  // namespace mla::fuzz
