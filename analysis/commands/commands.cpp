#include "analysis/commands/commands.h"

namespace mla {

const std::vector<ReportCommand>& report_commands() {
  static const std::vector<ReportCommand> commands = {
      summary_command(), table_command(),      figure_command(),   html_command(),   compare_command(),
      planner_command(), verify_command(),     merge_command(),    export_command(), repair_command(),
      gc_command(),      completion_command(), reference_command()};
  return commands;
}

}  // namespace mla
