// The frame around the commands of mlaforge-report: help, options, exit codes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/analysis/run_report.h"
#include "tests/support/option_spelling.h"

namespace mla {
namespace {

using test::run_report;
using testing::ContainsRegex;
using testing::HasSubstr;
using testing::StartsWith;

TEST(ReportCommands, ShowUsageOptionsAndAnExample) {
  for (const ReportCommand& command : report_commands()) {
    for (const char* flag : {"--help", "-h"}) {
      const auto result = run_report({command.name, flag});
      EXPECT_EQ(result.exit_code, 0);
      EXPECT_EQ(result.err, "");
      EXPECT_THAT(result.out, StartsWith(std::string(command.summary) + "\n\nusage: mlaforge-report " + command.name));
      EXPECT_THAT(result.out, HasSubstr("\noptions:\n"));
      EXPECT_THAT(result.out, ContainsRegex(std::string("Examples?:[ \n]+mlaforge-report ") + command.name + " "));
    }
  }
}

TEST(ReportCommands, SpellOptionsAsAllOthersDo) {
  for (const ReportCommand& command : report_commands())
    test::expect_one_spelling(command.name, run_report({command.name, "--help"}).out);
}

TEST(ReportCommands, RefuseWhatIsUnknownInOneLine) {
  for (const ReportCommand& command : report_commands()) {
    const auto result = run_report({command.name, "--no-such-option", "1"});
    EXPECT_EQ(result.exit_code, 2);
    EXPECT_EQ(result.out, "");
    EXPECT_THAT(result.err, StartsWith(std::string("mlaforge-report: ") + command.name +
                                       ": unknown option --no-such-option; known: --"));
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1);
  }
  EXPECT_THAT(run_report({"table", "--metrc", "x"}).err, HasSubstr("did you mean '--metric'?"));
  EXPECT_EQ(run_report({"compare", "a", "b", "--max-lines", "-1"}).err,
            "mlaforge-report: compare: --max-lines = -1: must be at least 0\n");
}

TEST(ReportCommands, TakeTheEarlierNameOfMaxLines) {
  const auto result = run_report({"compare", "--limit", "3", "/no/a", "/no/b"});
  EXPECT_EQ(result.exit_code, 3) << result.err;
  EXPECT_THAT(result.err, StartsWith("mlaforge-report: compare: --limit is now --max-lines\n"));
}

}  // namespace
}  // namespace mla
