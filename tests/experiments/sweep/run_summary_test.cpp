#include "experiments/sweep/run_summary.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

namespace mla {
namespace {

ScoreRecord score(const std::string& stage, const std::string& task, const std::string& metric, double value) {
  ScoreRecord record;
  record.stage = stage;
  record.task = task;
  record.metric = metric;
  record.value = value;
  return record;
}

/// A layer that caches twice as many elements.
ModelSpec one_layer(std::int64_t head_dim) {
  UniformModel model;
  model.heads.heads = model.heads.kv_heads = 1;
  model.heads.head_dim = head_dim;
  model.layers = 1;
  return model.spec();
}

CellSummary summary_of(const std::string& name, double cache_ratio, const std::vector<ScoreRecord>& scores,
                       RunStatus status = RunStatus::kComplete) {
  CellPlan cell;
  cell.name = name;
  cell.spec = one_layer(400);
  if (cache_ratio != 1) {
    PlannedPass pass;
    pass.after = one_layer(static_cast<std::int64_t>(400 * cache_ratio));
    cell.passes.push_back(std::move(pass));
  }
  RunRecord record;
  record.head.status = status;
  record.evaluation = scores;
  return summarize(cell, record);
}

std::string table_of(const std::vector<CellSummary>& cells) {
  std::ostringstream out;
  print_summary(cells, out);
  return out.str();
}

TEST(RunSummary, ShowsPerplexityOfEachStage) {
  const auto converted =
      summary_of("high", 0.25,
                 {score("source", "stories", "nll", 1), score("source", "stories", "perplexity", 2.718),
                  score("converted", "stories", "nll", 2), score("converted", "stories", "perplexity", 7.389)});
  const auto baseline = summary_of(
      "baseline", 1, {score("source", "stories", "nll", 1), score("source", "stories", "perplexity", 2.718)});
  EXPECT_EQ(table_of({baseline, converted}),
            "\n"
            "cell      cache left  measure             source  converted  status\n"
            "baseline       100 %  stories perplexity   2.718             complete\n"
            "high            25 %  stories perplexity   2.718      7.389  complete\n");
}

TEST(RunSummary, TakesTheFirstMetricOfATaskWithoutPerplexity) {
  const auto cell =
      summary_of("high", 1, {score("fine_tuned", "quiz", "accuracy", 0.5), score("fine_tuned", "quiz", "f1", 0.7)});
  ASSERT_EQ(cell.tasks.size(), 1U);
  EXPECT_EQ(cell.tasks[0].metric, "accuracy");
  EXPECT_THAT(cell.tasks[0].by_stage, testing::ElementsAre(testing::Pair("fine_tuned", 0.5)));
}

TEST(RunSummary, ShowsCellsThatFailedBeforeAnyScore) {
  const auto failed = summary_of("low", 0.25, {}, RunStatus::kFailed);
  EXPECT_EQ(table_of({failed}), "\ncell  cache left  measure  status\nlow         25 %           failed\n");
}

}  // namespace
}  // namespace mla
