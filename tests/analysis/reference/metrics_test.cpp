// The reference's metrics are those that the tasks record.
#include "analysis/reference/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <regex>
#include <set>

#include "analysis/reference/pages.h"
#include "core/base/error.h"
#include "core/base/file.h"
#include "tests/analysis/run_report.h"

namespace mla {
namespace {

using testing::HasSubstr;

/// The source text of all tasks.
std::string task_sources() {
  std::string all;
  for (const auto& entry :
       std::filesystem::directory_iterator(std::filesystem::path(MLA_SOURCE_DIR) / "experiments/tasks"))
    if (entry.path().extension() == ".cpp") all += read_file(entry.path());
  return all;
}

TEST(MetricHelps, ExplainEveryNameThatATaskRecords) {
  const std::string sources = task_sources();
  std::set<std::string> names;
  for (const char* call :
       {R"((?:new_score|make_mean|mean_of|make)\([^";]*"([a-z0-9_]+)\")", R"(\.add(?:_choices)?\("([a-z0-9_]+)\")"}) {
    const std::regex pattern(call);
    for (std::sregex_iterator each(sources.begin(), sources.end(), pattern), end; each != end; ++each)
      names.insert((*each)[1]);
  }
  EXPECT_GE(names.size(), 15u) << "the pattern no longer finds names";
  for (const std::string& name : names) {
    EXPECT_TRUE(std::any_of(metric_helps().begin(), metric_helps().end(),
                            [&](const MetricHelp& help) { return is_named(name, help); }))
        << name << ": give it a line in analysis/reference/metrics.cpp";
  }
}

TEST(MetricHelps, NameNothingThatNoTaskRecords) {
  const std::string sources = task_sources();
  for (const MetricHelp& help : metric_helps()) {
    if (std::any_of(help.name.begin(), help.name.end(), [](char letter) { return letter >= 'A' && letter <= 'Z'; }))
      continue;
    EXPECT_THAT(sources, HasSubstr(cat("\"", help.name, "\""))) << help.name;
  }
}

TEST(MetricHelps, CapitalsStandForAnyText) {
  const auto of = [](const char* name) { return MetricHelp{name, "", "", true, ""}; };
  EXPECT_TRUE(is_named("kl_90", of("kl_90")));
  EXPECT_FALSE(is_named("kl_99", of("kl_90")));
  EXPECT_TRUE(is_named("exact_256_at_50", of("MEASURE_LENGTH_at_DEPTH")));
  EXPECT_TRUE(is_named("accuracy.stem", of("ACCURACY.GROUP")));
  EXPECT_FALSE(is_named("accuracy", of("ACCURACY.GROUP")));
}

TEST(ReferencePages, HoldEveryFieldOfARecord) {
  const std::string page = record_fields_page();
  for (const char* field : {"content_hash", "numerics_version", "latent_width", "learning_rate", "standard_error",
                            "predicted_bytes", "effective_bits"})
    EXPECT_THAT(page, HasSubstr(cat("| `", field, "` | ")));
}

TEST(ReportHelp, OfACommandIsItsHelp) {
  for (const ReportCommand& command : report_commands())
    EXPECT_EQ(test::run_report({"help", command.name}).out, test::run_report({command.name, "--help"}).out);
  EXPECT_EQ(test::run_report({"help", "tabel"}).exit_code, 2);
  EXPECT_THAT(test::run_report({"help", "table", "html"}).err, HasSubstr("expected one COMMAND, found also 'html'"));
}

TEST(ReportManual, DescribesEveryCommand) {
  const ProgramManual manual = report_manual();
  ASSERT_EQ(manual.commands.size(), report_commands().size());
  for (const CommandManual& command : manual.commands) {
    EXPECT_FALSE(command.options.empty()) << command.name;
    EXPECT_FALSE(command.usage.empty()) << command.name;
    ASSERT_FALSE(command.examples.empty()) << command.name;
    EXPECT_THAT(command.examples.front(), HasSubstr("mlaforge-report " + command.name));
  }
}

}  // namespace
}  // namespace mla
