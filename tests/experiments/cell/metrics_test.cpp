// What a cell writes down of its training while it runs.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "core/base/error.h"
#include "core/base/fields.h"
#include "core/model/checkpoint.h"
#include "core/store/record.h"
#include "experiments/cell/identity.h"
#include "experiments/cell/metrics_file.h"
#include "experiments/config/experiment_config.h"
#include "tests/support/results.h"
#include "tests/support/run_program.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_model_folder.h"

namespace mla {
namespace {

using std::filesystem::path;
using test::run_program;
using test::run_script;
using testing::ElementsAre;
using testing::HasSubstr;

TEST(MetricsFileTest, LinesComeBack) {
  StepMetrics line{"fine_tuned", 3, 4096, 1.5, 1e-3, 0.75, 0.5, 2048, "2026-01-31T12:00:00Z"};
  line.evaluation["text"]["nll"] = 1.25;
  const auto back = parse_metrics(to_json(line).dump());
  ASSERT_TRUE(back);
  EXPECT_EQ(to_json(*back), to_json(line));
  line.loss = std::nan("");
  EXPECT_TRUE(std::isnan(parse_metrics(to_json(line).dump())->loss));
  for (const char* text : {"", "{", "[]", "{\"step\": 1}", "{\"stage\": 1, \"step\": \"x\"}"})
    EXPECT_FALSE(parse_metrics(text));
}

TEST(MetricsFileTest, ReadingEndsWhereALineIsCutOrMissing) {
  const test::TemporaryFolder folder;
  const auto text = [](std::int64_t step) { return to_json(StepMetrics{"s", step, 1, 1, 1, 1}).dump(); };
  EXPECT_EQ(read_metrics(folder / "none").size(), 0u);
  EXPECT_EQ(read_metrics(folder.write("cut", text(0) + "\n" + text(1) + "\n" + text(2).substr(0, 20))).size(), 2u);
  EXPECT_EQ(read_metrics(folder.write("gap", text(0) + "\n" + text(2) + "\n")).size(), 1u);
}

class Metrics : public testing::Test {
 protected:
  void SetUp() override {
    test::write_tiny_inputs(folder_);
    Json config = test::tiny_experiment({{"train", {{"steps", 8}}}, {"checkpoint_seconds", 0}});
    config["evaluate"][0]["name"] = "text";
    config_ = folder_.write_config("tiny.json", config.dump());
  }

  path results() const { return folder_ / "results"; }
  std::vector<std::string> words(std::vector<std::string> more) const {
    more.insert(more.begin(), {"run", config_.string(), "--quiet", "--threads", "1"});
    return more;
  }
  /// Where the only cell of the plan keeps its metrics.
  path metrics() const {
    const Json plan = read_json(results() / "tiny/plan.json");
    return results() / ".cells" / plan["cells"][0]["content_hash"].get<std::string>() / "metrics.jsonl";
  }
  path record() const {
    return results() / "tiny" /
           (read_json(results() / "tiny/plan.json")["cells"][0]["cell"].get<std::string>() + ".h5");
  }

  /// Every step of the record, and no other, in order.
  static void expect_those_of(const TrainingSeries& training, const std::vector<StepMetrics>& lines) {
    ASSERT_EQ(lines.size(), training.step.size());
    for (std::size_t i = 0; i < lines.size(); ++i) {
      EXPECT_EQ(lines[i].step, training.step[i]);
      EXPECT_EQ(lines[i].tokens, training.tokens[i]);
      EXPECT_EQ(lines[i].loss, training.loss[i]);
      EXPECT_EQ(lines[i].learning_rate, training.learning_rate[i]);
      EXPECT_EQ(lines[i].gradient_norm, training.gradient_norm[i]);
    }
  }

  test::TemporaryFolder folder_;
  path config_;
};

TEST_F(Metrics, EveryStepHasALineAndTheModelIsMeasuredOnTheWay) {
  const auto plain = run_program(words({"--set", "results=" + (folder_ / "plain").string()}));
  ASSERT_EQ(plain.exit_code, 0) << plain.err;
  const auto run = run_program(words({"--set", "train.evaluate_every=3", "--set", "train.partial_rope_steps=3"}));
  ASSERT_EQ(run.exit_code, 0) << run.err;
  const RunRecord one = read_record(record());
  const auto lines = read_metrics(metrics());
  expect_those_of(one.training, lines);
  EXPECT_EQ(lines.front().stage, "partial_rope");
  EXPECT_EQ(lines.back().stage, "fine_tuned");
  for (const StepMetrics& line : lines) {
    EXPECT_GT(line.tokens_per_second.value_or(0), 0);
    EXPECT_EQ(line.time.size(), std::string("2026-01-31T12:00:00Z").size());
    EXPECT_EQ(line.evaluation.empty(), line.step != 2 && line.step != 5) << line.step;
  }
  ASSERT_GE(one.training_scores.size(), 2u);
  EXPECT_EQ(one.training_scores[0].task, "text");
  EXPECT_EQ(one.training_scores[0].metric, "nll");
  EXPECT_EQ(one.training_scores[0].unit, "nats per token");
  EXPECT_THAT(one.training_scores[0].step, ElementsAre(2, 5));
  // The last step of the first stage is what that stage's evaluation measures.
  for (const ScoreRecord& score : one.evaluation) {
    if (score.stage == "partial_rope" && score.metric == "nll") {
      EXPECT_EQ(score.value, one.training_scores[0].value[0]);
    }
  }
}

TEST_F(Metrics, MeasuringChangesNoTraining) {
  ASSERT_EQ(run_program(words({"--set", "results=" + (folder_ / "plain").string()})).exit_code, 0);
  ASSERT_EQ(run_program(words({"--set", "train.evaluate_every=1", "--set", "train.tensorboard=true"})).exit_code, 0);
  const auto plain = test::records_in(folder_ / "plain/tiny"), measured = test::records_in(results() / "tiny");
  ASSERT_EQ(measured.size(), 1u);
  EXPECT_EQ(measured.begin()->second.training, plain.begin()->second.training);
  EXPECT_EQ(measured.begin()->second.evaluation, plain.begin()->second.evaluation);
  EXPECT_NE(measured.begin()->second.head.content_hash, plain.begin()->second.head.content_hash);
  EXPECT_TRUE(plain.begin()->second.training_scores.empty());
}

// Killed in the midst of its steps, again and again: no step is missing and none stands there twice.
TEST_F(Metrics, AKilledRunGoesOnInItsFile) {
  const std::string options = " --quiet --threads 1 --set train.steps=150 --set train.evaluate_every=10 ";
  const std::string command = "mlaforge run " + config_.string() + options;
  const auto whole = run_script(command + "--set results=" + (folder_ / "whole").string());
  ASSERT_EQ(whole.exit_code, 0) << whole.err;
  const auto killed = run_script(
      "for steps in 20 60 100; do\n" + command + " & for i in $(seq 1000); do\n" + "[ $(cat " + results().string() +
      "/.cells/*/metrics.jsonl 2>/dev/null | wc -l) -ge $steps ] && break\n" +
      "sleep 0.02; done\nkill -9 $!; wait $!; cat " + results().string() + "/.cells/*/metrics.jsonl | wc -l; done");
  EXPECT_THAT(killed.out, HasSubstr("\n"));
  const std::string file = metrics().string();
  // What a crash of the machine may leave: lines that were never written out, and one that is cut.
  ASSERT_EQ(run_script("head -n 15 " + file + " > " + file + ".cut && printf '{\"stage' >> " + file + ".cut && mv " +
                       file + ".cut " + file)
                .exit_code,
            0);
  const auto resumed = run_script(command);
  ASSERT_EQ(resumed.exit_code, 0) << resumed.err;
  const RunRecord one = read_record(record());
  expect_those_of(one.training, read_metrics(metrics()));
  EXPECT_EQ(one.training, read_record(folder_ / "whole/tiny" / record().filename()).training);
}

TEST_F(Metrics, AResumedRecordHasTheScoresOfAWholeOne) {
  const std::string command =
      "mlaforge run " + config_.string() + " --quiet --threads 1 --set train.steps=120 --set train.evaluate_every=10 ";
  ASSERT_EQ(run_script(command + "--set results=" + (folder_ / "whole").string()).exit_code, 0);
  const auto killed = run_script(command + " & for i in $(seq 1000); do [ $(cat " + results().string() +
                                 "/.cells/*/metrics.jsonl 2>/dev/null | wc -l) -ge 45 ] && break\n" +
                                 "sleep 0.02; done\nkill -9 $!; wait $!; exit 0");
  ASSERT_EQ(killed.exit_code, 0);
  const auto resumed = run_script(command);
  ASSERT_EQ(resumed.exit_code, 0) << resumed.err;
  const RunRecord one = read_record(record()), other = read_record(folder_ / "whole/tiny" / record().filename());
  EXPECT_EQ(one.training_scores, other.training_scores);
  EXPECT_EQ(one.training_scores.front().step.size(), 12u);
}

TEST_F(Metrics, CheckpointsAreModelsThatLoad) {
  const auto best = run_program(words({"--set", "train.evaluate_every=2", "--set", "train.keep_checkpoints=best"}));
  ASSERT_EQ(best.exit_code, 0) << best.err;
  const RunRecord one = read_record(record());
  const path kept = results() / "tiny/checkpoints" / record().stem() / "best";
  const Json about = read_json(kept / "checkpoint.json");
  const auto& nll = one.training_scores.front();
  const auto least = std::min_element(nll.value.begin(), nll.value.end());
  EXPECT_EQ(about["step"], nll.step[static_cast<std::size_t>(least - nll.value.begin())]);
  EXPECT_EQ(about["evaluation"]["text"]["nll"], *least);
  const auto measured =
      run_program({"evaluate", "--model", kept.string(), "--perplexity", (folder_ / "text.txt").string(), "--separator",
                   "###", "--context", "32", "--json"});
  ASSERT_EQ(measured.exit_code, 0) << measured.err;
  EXPECT_NEAR(measured.json()["mean_nll"].get<double>(), *least, 1e-6);

  const auto every = run_program(words({"--set", "train.keep_checkpoints=3", "--force"}));
  ASSERT_EQ(every.exit_code, 0) << every.err;
  for (const char* name : {"step_3", "step_6"})
    EXPECT_EQ(load_spec(kept.parent_path() / name).layers.size(), load_spec(kept).layers.size()) << name;
  EXPECT_FALSE(std::filesystem::exists(kept.parent_path() / "step_8"));
}

TEST_F(Metrics, CheckpointsOfAdaptersAreMerged) {
  const auto run = run_program(words({"--set", "train.lora.rank=2", "--set", "train.evaluate_every=4", "--set",
                                      "train.keep_checkpoints=4", "--set", "compress=[]"}));
  ASSERT_EQ(run.exit_code, 0) << run.err;
  const path kept = results() / "tiny/checkpoints" / record().stem() / "step_4";
  EXPECT_FALSE(std::filesystem::exists(kept / "adapter"));
  const auto measured =
      run_program({"evaluate", "--model", kept.string(), "--perplexity", (folder_ / "text.txt").string(), "--separator",
                   "###", "--context", "32", "--json"});
  ASSERT_EQ(measured.exit_code, 0) << measured.err;
  EXPECT_NEAR(measured.json()["mean_nll"].get<double>(), read_record(record()).training_scores.front().value.front(),
              1e-5);
}

TEST_F(Metrics, TheLogTellsWhatWasDone) {
  ASSERT_EQ(run_program(words({"--set", "train.evaluate_every=4"})).exit_code, 0);
  const std::string log = read_file(results() / "tiny/run.log");
  EXPECT_THAT(log, HasSubstr(" begins: mlaforge run "));
  EXPECT_THAT(log, HasSubstr(" info: "));
  EXPECT_THAT(log, HasSubstr("fine_tuned: step 3: {\"text\":{\"nll\":"));
  EXPECT_THAT(log, HasSubstr(" ends\n"));
}

TEST_F(Metrics, WhatCannotBeIsRefused) {
  const auto refused = [&](const std::string& set, std::vector<std::string> more = {}) {
    more.insert(more.begin(), {"--set", set});
    const auto result = run_program(words(more));
    EXPECT_EQ(result.exit_code, 2) << set;
    return result.err;
  };
  EXPECT_THAT(refused("train.keep_checkpoints=best"),
              HasSubstr("train.keep_checkpoints = best: needs train.evaluate_every"));
  EXPECT_THAT(refused("train.keep_checkpoints=first"),
              HasSubstr("train.keep_checkpoints = \"first\": expected last, best, or every N"));
  EXPECT_THAT(refused("train.keep_checkpoints=0"), HasSubstr("expected last, best, or every N"));
  EXPECT_THAT(refused("train.evaluate_every=-1"), HasSubstr("train.evaluate_every: -1"));
  EXPECT_THAT(refused("train.evaluate_every=2", {"--set", "evaluate=[]"}),
              HasSubstr("train.evaluate_every = 2: `evaluate` has no task perplexity"));
}

TEST(KeepCheckpointsTest, IsWrittenAsItIsRead) {
  for (const char* text : {"\"last\"", "\"best\"", "\"every 20\""}) {
    const Json json = parse_json(text, "test");
    EXPECT_EQ(KeepCheckpoints::read(json, "").write(), json);
  }
  EXPECT_EQ(KeepCheckpoints::read(7, "").write(), "every 7");
}

}  // namespace
}  // namespace mla
