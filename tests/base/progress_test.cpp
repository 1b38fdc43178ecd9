#include "core/base/progress.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/log.h"
#include "tests/support/temporary_folder.h"

namespace mla {
namespace {

using ::testing::AllOf;
using ::testing::ContainsRegex;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::Not;
using ::testing::StartsWith;

/// Sends progress to a file for one test.
class ProgressTest : public ::testing::Test {
 protected:
  ProgressTest() : before_(progress_style()) {
    progress_style() = {.out = std::fopen((folder_ / "out").c_str(), "w"), .terminal = false};
  }
  ~ProgressTest() override {
    std::fclose(progress_style().out);
    progress_style() = before_;
  }
  std::string shown() const { return read_file(folder_ / "out"); }

  test::TemporaryFolder folder_;
  ProgressStyle before_;
};

TEST_F(ProgressTest, OnlyTheLastLineOfAShortLoopIsWritten) {
  testing::internal::CaptureStdout();
  {
    Progress bar("fine-tune", 4000, "tokens");
    for (int i = 0; i < 4; ++i) bar.advance(1000, cat("loss ", i));
    EXPECT_EQ(bar.done(), 4000);
    EXPECT_EQ(shown(), "");
  }
  EXPECT_THAT(shown(), MatchesRegex("fine-tune: 4.00k tokens, [0-9.]+[kMGT]?/s, took 0.0s, loss 3\n"));
  EXPECT_EQ(testing::internal::GetCapturedStdout(), "");
}

TEST_F(ProgressTest, WhatWasDoneBeforeCountsButNotForTheRate) {
  progress_style().seconds_between_lines = 0;
  {
    Progress bar("evaluate", 1000, "tokens");
    bar.take_over(999);
    bar.advance(0);
  }
  EXPECT_THAT(shown(), StartsWith("evaluate: 99% 999/1.00k tokens, 0/s\n"));
}

TEST_F(ProgressTest, PlainLinesComeWhenTheyAreDue) {
  progress_style().seconds_between_lines = 0;
  {
    Progress bar("calibrate", 4, "layers");
    bar.advance();
    bar.advance(1, "note");
  }
  EXPECT_THAT(shown(), StartsWith("calibrate: 25% 1/4 layers, "));
  EXPECT_THAT(shown(), ContainsRegex("\ncalibrate: 50% 2/4 layers, [^\n]* left, note\n"));
  EXPECT_THAT(shown(), ContainsRegex("\ncalibrate: 2/4 layers, [^\n]*, took 0.0s, note\n$"))
      << "a loop that was left early says how far it came";
  EXPECT_THAT(shown(), Not(HasSubstr("\033")));
}

TEST_F(ProgressTest, ATerminalIsRedrawnInPlace) {
  progress_style().terminal = true;
  progress_style().seconds_between_draws = 0;
  {
    Progress bar("x", 2, "cells");
    bar.advance(1, std::string(500, 'n'));
    EXPECT_THAT(shown(),
                AllOf(StartsWith("\r\033[Kx: [############............] 50% 1/2 cells, "), Not(HasSubstr("\n"))));
    EXPECT_LT(shown().size(), 90u) << "a line that wraps could not be cleared";
    bar.advance();
  }
  const std::string all = shown();
  EXPECT_THAT(all, AllOf(HasSubstr("\r\033[Kx: 2 cells, "), EndsWith("\n")));
  EXPECT_EQ(std::count(all.begin(), all.end(), '\n'), 1);
}

TEST_F(ProgressTest, ALogLineClearsTheBarFirst) {
  progress_style().terminal = true;
  progress_style().seconds_between_draws = 0;
  Progress bar("x", 2, "cells");
  bar.advance();
  testing::internal::CaptureStderr();
  log_info("event");
  EXPECT_THAT(testing::internal::GetCapturedStderr(), EndsWith("info: event\n"));
  EXPECT_THAT(shown(), EndsWith("\r\033[K"));
  progress_style().quiet = true;
}

TEST_F(ProgressTest, QuietShowsNothingAndNeverMakesANote) {
  progress_style().quiet = true;
  progress_style().seconds_between_lines = 0;
  {
    Progress bar("x", 1, "cells");
    bar.advance(1, [] { return std::string("made"); });
    int made = 0;
    bar.advance(1, [&] { return std::to_string(++made); });
    EXPECT_EQ(made, 0);
  }
  EXPECT_EQ(shown(), "");
}

TEST_F(ProgressTest, NotesAreMadeOnlyWhenShown) {
  int made = 0;
  {
    Progress bar("x", 1000, "steps");
    for (int i = 0; i < 1000; ++i) bar.advance(1, [&] { return cat("note ", ++made); });
  }
  EXPECT_EQ(made, 1);
  EXPECT_THAT(shown(), EndsWith(", note 1\n"));
}

TEST_F(ProgressTest, AnUnknownTotalHasNoShareAndNoTimeLeft) {
  progress_style().seconds_between_lines = 0;
  {
    Progress bar("read", 0, "lines");
    bar.advance(12'345);
  }
  EXPECT_THAT(shown(), AllOf(StartsWith("read: 12.3k lines, "), Not(HasSubstr("%")), Not(HasSubstr("left"))));
}

}  // namespace
}  // namespace mla
