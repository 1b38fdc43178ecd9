// `mlaforge status` of trainings: at a glance, and again and again.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "experiments/sweep/training_glance.h"
#include "tests/support/results.h"
#include "tests/support/run_program.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_model_folder.h"

namespace mla {
namespace {

using test::run_program;
using test::run_script;
using testing::ElementsAre;
using testing::HasSubstr;

TEST(Sparkline, ScalesToTheValues) {
  EXPECT_EQ(sparkline({}), "");
  EXPECT_EQ(sparkline({8, 1, 4.5}), "█▁▅");
  EXPECT_EQ(sparkline({2, 2}), "▁▁");
  EXPECT_EQ(sparkline({1, std::nan(""), INFINITY, 2}), "▁××█");
}

TEST(TrainingGlanceTest, TakesLinesAtEvenDistances) {
  const test::TemporaryFolder folder;
  EXPECT_FALSE(glance_at(folder / "none", 10));
  std::ofstream(folder / "short") << to_json(StepMetrics{"s", 0, 1, 5, 1, 1}).dump() << "\n{\"stage\": \"s\", \"st";
  const auto one = glance_at(folder / "short", 10);
  ASSERT_TRUE(one);
  EXPECT_THAT(one->losses, ElementsAre(5));
  constexpr std::int64_t kSteps = 20000;
  {
    std::ofstream file(folder / "long");
    for (std::int64_t step = 0; step < kSteps; ++step)
      file << to_json(StepMetrics{"s", step, step, static_cast<double>(kSteps - step), 1, 1}).dump() << "\n";
  }
  const auto many = glance_at(folder / "long", 11);
  ASSERT_TRUE(many);
  EXPECT_EQ(many->last.step, kSteps - 1);
  ASSERT_EQ(many->losses.size(), 11u);
  for (std::size_t i = 0; i < 11; ++i)
    EXPECT_NEAR(many->losses[i], kSteps - kSteps * static_cast<double>(i) / 11, 1900) << i;
  EXPECT_EQ(many->losses.front(), kSteps);
  EXPECT_EQ(many->losses.back(), 1);
}

class Watch : public testing::Test {
 protected:
  void SetUp() override {
    test::write_tiny_inputs(folder_);
    config_ = folder_.write_config("tiny.json", R"({
       "model": {"path": "@/model"}, "results": "@/results",
       "compress": [{"name": "mha2mla", "rope": {"name": "high", "pairs": 1},
                     "low_rank": {"name": "joint_svd", "d_kv": 2}}],
       "train": {"steps": 6, "batch_rows": 2, "sequence_length": 16, "learning_rate": 0.003,
                 "data": {"files": ["@/text.txt"], "documents": {"separator": "###"}}},
       "grid": {"compress[0].low_rank.d_kv": [2, 3]}})");
    ASSERT_EQ(run_program({"run", config_.string(), "--quiet", "--max-cells", "1"}).exit_code, 0);
  }
  std::string results() const { return (folder_ / "results").string(); }

  test::TemporaryFolder folder_;
  std::filesystem::path config_;
};

TEST_F(Watch, StatusTellsTheCourseOfTrainings) {
  const Json cells = run_program({"status", results(), "--json"}).json()["experiments"][0]["cells"];
  EXPECT_EQ(cells[0]["training"]["step"], 5);
  EXPECT_EQ(cells[0]["training"]["losses"].size(), 6u);
  EXPECT_FALSE(cells[1].contains("training"));
}

TEST_F(Watch, PrintsOncePerIntervalUntilCtrlC) {
  // The signal comes after two pictures: before its handler stands, a process in the background ignores it.
  const auto watch = [&](const std::string& options, const std::string& seen) {
    const std::string out = (folder_ / "out").string();
    return run_script("mlaforge status --watch 0.2 " + results() + " " + options + " > " + out +
                      " & for i in $(seq 1000); do [ $(grep -c '" + seen + "' " + out +
                      " 2>/dev/null || true) -ge 2 ] && break; sleep 0.05; done\nkill -INT $!; wait $!; code=$?; cat " +
                      out + "; exit $code");
  };
  const auto text = watch("", "Ctrl-C ends");
  EXPECT_EQ(text.exit_code, 130) << text.err;
  EXPECT_GE(test::times(text.out, ", every 0.2 s; Ctrl-C ends\n"), 2u) << text.out;
  EXPECT_THAT(text.out, HasSubstr(" at step 5"));
  EXPECT_THAT(text.out, HasSubstr("1 complete, 1 pending"));
  EXPECT_EQ(text.out.find('\033'), std::string::npos) << "it is no terminal";
  const auto json = watch("--json", "experiments");
  EXPECT_EQ(json.exit_code, 130);
  ASSERT_GE(test::times(json.out, "\n"), 2u);
  EXPECT_EQ(parse_json(json.out.substr(0, json.out.find('\n')), "line")["experiments"][0]["counts"]["complete"], 1);
}

TEST_F(Watch, AnIntervalIsANumberOfSeconds) {
  EXPECT_EQ(run_program({"status", results(), "--watch=0"}).exit_code, 2);
  EXPECT_THAT(run_program({"status", results(), "--watch=0"}).err, HasSubstr("--watch = 0: expected seconds above 0"));
  EXPECT_EQ(run_program({"status", results() + "/none", "--watch", "1"}).exit_code, 3);
}

}  // namespace
}  // namespace mla
