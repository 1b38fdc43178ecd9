// Each command, defined in the file of its name.
#pragma once

#include "analysis/cli/command.h"

namespace mla {

ReportCommand summary_command();
ReportCommand table_command();
ReportCommand figure_command();
ReportCommand html_command();
ReportCommand compare_command();
ReportCommand planner_command();
ReportCommand verify_command();
ReportCommand merge_command();
ReportCommand export_command();
ReportCommand repair_command();
ReportCommand gc_command();
ReportCommand completion_command();
ReportCommand reference_command();

}  // namespace mla
