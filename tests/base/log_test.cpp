#include "core/base/log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/error.h"
#include "core/base/file.h"
#include "tests/support/errors.h"
#include "tests/support/temporary_folder.h"

namespace mla {
namespace {

using ::testing::MatchesRegex;
using ::testing::StartsWith;

TEST(Log, LinesGoToStderrOnlyAndHoldOneEvent) {
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  log_info("two\nlines");
  log_warning("careful");
  log_debug("hidden");
  const std::string errors = testing::internal::GetCapturedStderr();
  EXPECT_THAT(errors, MatchesRegex("[0-9:]+ info: two lines\n[0-9:]+ warning: careful\n"));
  EXPECT_EQ(testing::internal::GetCapturedStdout(), "");
}

TEST(Log, TheLevelDecides) {
  testing::internal::CaptureStderr();
  set_log_level(LogLevel::kError);
  log_warning("hidden");
  set_log_level(LogLevel::kDebug);
  log_debug("shown {}");
  set_log_level(LogLevel::kInfo);
  EXPECT_THAT(testing::internal::GetCapturedStderr(), MatchesRegex("[0-9:]+ debug: shown \\{\\}\n"));
}

TEST(Log, AFileGetsACopy) {
  const test::TemporaryFolder folder;
  testing::internal::CaptureStderr();
  set_log_file(folder / "logs/run.log");
  log_error("broken");
  set_log_file("");
  log_error("later");
  testing::internal::GetCapturedStderr();
  EXPECT_THAT(read_file(folder / "logs/run.log"), MatchesRegex("[-0-9T:+]+ error: broken\n"));
}

TEST(Log, AFileThatCannotBeOpenedIsADataError) {
  const test::TemporaryFolder folder;
  EXPECT_THAT(test::message_of<DataError>([&] { set_log_file(folder.path()); }),
              StartsWith(folder.path().string() + ": cannot be written: "));
}

}  // namespace
}  // namespace mla
