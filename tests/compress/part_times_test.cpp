// Seconds by part: each moment goes to one part alone.
#include "core/compress/part_times.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

namespace mla {
namespace {

void pass_milliseconds(int count) { std::this_thread::sleep_for(std::chrono::milliseconds(count)); }

TEST(PartTimes, GiveEveryMomentToTheInnermostPart) {
  PartTimes times;
  const auto start = std::chrono::steady_clock::now();
  {
    const PartTimes::Running outer(times, "outer");
    pass_milliseconds(10);
    for (int i = 0; i < 2; ++i) {
      const PartTimes::Running inner(times, "inner");
      pass_milliseconds(20);
    }
  }
  pass_milliseconds(10);  // of no part
  const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - start;
  EXPECT_GE(times.seconds("outer"), 0.01);
  EXPECT_GE(times.seconds("inner"), 0.04);
  EXPECT_LE(times.seconds("outer") + times.seconds("inner"), passed.count() - 0.01);
  EXPECT_EQ(times.seconds("none"), 0);
  EXPECT_THAT(times.text(), testing::ContainsRegex("^[0-9.]+ s: outer [0-9.]+ s, inner [0-9.]+ s$"));
}

}  // namespace
}  // namespace mla
