#include "experiments/sweep/plan_table.h"

#include "core/base/error.h"
#include "experiments/cli/table.h"
#include "experiments/sweep/estimate.h"

namespace mla {
namespace {

/// Bytes of one cached element in the usual serving dtype, bfloat16.
constexpr std::int64_t kCacheBytes = 2;

std::int64_t cached_elements(const CellPlan& cell) { return mla::cached_elements(cell.planned()); }

std::int64_t parameters(const CellPlan& cell) { return count_parameters(cell.planned()).total(); }

}  // namespace

void print_plan(const ExperimentPlan& plan, std::ostream& out) {
  out << "experiment " << plan.name << ": " << plan.cells.size() << (plan.cells.size() == 1 ? " cell\n" : " cells\n");
  Table table(
      {"cell", "cached elements/token", "cache bytes/token (bf16)", "cache left", "parameters", "training tokens"});
  for (const CellPlan& cell : plan.cells) {
    table.add({cell.name, grouped(cached_elements(cell)), grouped(kCacheBytes * cached_elements(cell)),
               cat(rounded(100 * cell.cache_ratio(), 4), " %"), grouped(parameters(cell)),
               grouped(cell.training_tokens())});
  }
  table.print(out);
  for (const InvalidCell& cell : plan.invalid) out << "left out: " << cell.name << ": " << cell.reason << "\n";
  if (!plan.invalid.empty())
    out << plan.invalid.size() << " of " << plan.invalid.size() + plan.cells.size()
        << " cells make no sense and are left out\n";
  print_shared_work(shared_work(plan), out);
  out.flush();  // the work may take long
}

Json plan_to_json(const ExperimentPlan& plan) {
  Json cells = Json::array();
  for (const CellPlan& cell : plan.cells) {
    cells.push_back({{"cell", cell.name},
                     {"overrides", cell.overrides},
                     {"record", cell.record.string()},
                     {"cached_elements_per_token", cached_elements(cell)},
                     {"cached_bytes_per_token_bfloat16", kCacheBytes * cached_elements(cell)},
                     {"cache_ratio", cell.cache_ratio()},
                     {"parameters", parameters(cell)},
                     {"training_tokens", cell.training_tokens()}});
  }
  Json invalid = Json::array();
  for (const InvalidCell& cell : plan.invalid) invalid.push_back({{"cell", cell.name}, {"reason", cell.reason}});
  return {{"experiment", plan.name},
          {"cells", cells},
          {"skipped_invalid", invalid},
          {"shared", to_json(shared_work(plan))}};
}

}  // namespace mla
