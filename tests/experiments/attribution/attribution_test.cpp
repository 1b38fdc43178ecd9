// The walk from the source model to the fine-tuned one.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "core/store/record.h"
#include "core/text/multiple_choice_item.h"
#include "tests/support/run_program.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_model_folder.h"

namespace mla {
namespace {

using testing::HasSubstr;

class Attribution : public testing::Test {
 protected:
  Attribution() {
    test::write_tiny_model(folder_ / "model");
    folder_.write("text.txt", "ab abc ab cab ba abc ab ab abc ab cab ba ab ba cab abc ba");
    std::vector<MultipleChoiceItem> items;
    for (int i = 0; i < 6; ++i)
      items.push_back({"ab cab abc " + std::string(static_cast<std::size_t>(i), 'a'), {" ab", " cab", " b"}, i % 3});
    folder_.write("items.jsonl", write_multiple_choice_items(items));
    config_ = folder_
                  .write_config("walk.json", R"({
       "model": {"path": "@/model"}, "results": "@/results",
       "compress": [{"name": "mha2mla", "rope": {"name": "high", "pairs": 1},
                     "low_rank": {"name": "joint_svd", "d_kv": 3}}],
       "train": {"steps": 2, "batch_rows": 1, "sequence_length": 8, "learning_rate": 0.01,
                 "data": {"files": ["@/text.txt"]}},
       "evaluate": [{"task": "perplexity", "name": "text", "context": 8, "data": {"files": ["@/text.txt"]}},
                    {"task": "multiple_choice", "name": "letters", "items": "@/items.jsonl"}]})")
                  .string();
  }
  test::ProgramResult attribute(std::vector<std::string> more = {}) const {
    more.insert(more.begin(), {"attribute", config_, "--json", "--quiet"});
    return test::run_program(more);
  }
  static double value(const Json& scores, const std::string& metric) {
    for (const Json& score : scores) {
      if (score["metric"] == metric) return score["value"].get<double>();
    }
    ADD_FAILURE() << metric;
    return 0;
  }

  test::TemporaryFolder folder_;
  std::string config_;
};

TEST_F(Attribution, StepsAddUpToTheWhole) {
  const std::string record = (folder_ / "walk.h5").string();
  const auto result = attribute({"--by-layer", "--output", record});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const Json report = result.json();
  std::vector<std::string> names;
  double nll = 0, kl = 0;
  for (const Json& step : report["steps"]) {
    names.push_back(step["step"].get<std::string>());
    for (const Json& change : step["changes"]) {
      if (change["metric"] == "nll") nll += change["difference"].get<double>();
      if (change["metric"] == "kl_mean") kl += change["difference"].get<double>();
    }
  }
  EXPECT_EQ(names, (std::vector<std::string>{"source", "partial_rope", "low_rank", "fine_tuned"}));
  const Json &first = report["steps"][0]["scores"], &last = report["steps"][3]["scores"];
  EXPECT_NEAR(nll, value(last, "nll") - value(first, "nll"), 1e-6);
  EXPECT_NEAR(kl, value(last, "kl_mean"), 1e-9);
  EXPECT_GT(value(report["steps"][1]["scores"], "kl_mean"), 0);
  EXPECT_GE(value(last, "flip_rate"), 0);
  ASSERT_EQ(report["layers"].size(), 4U);  // two layers, two steps that change them one by one
  EXPECT_EQ(report["layers"][3]["step"], "low_rank");
  EXPECT_EQ(report["layers"][3]["layer"], 1);
  EXPECT_GT(value(report["layers"][3]["scores"], "kl_mean"), 0);
  const RunRecord written = read_record(record);
  EXPECT_EQ(written.head.cell, "attribution of " + report["cell"].get<std::string>());
  EXPECT_EQ(written.evaluation.front().stage, "source");
  EXPECT_EQ(written.evaluation.back().stage, "low_rank_of_layer_1");
}

TEST_F(Attribution, AQuantizedCacheIsAStep) {
  const auto result = attribute(
      {"--no-training", "--set", R"(cache={"codec":{"name":"rtn","bits":2},"residual":0,"context":12,"prompt":4})"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const Json report = result.json();
  std::map<std::string, double> cached;
  for (const Json& step : report["steps"]) {
    for (const Json& score : step["scores"]) {
      if (score["task"] == "text, cached" && score["metric"] == "nll")
        cached[step["step"].get<std::string>()] = score["value"].get<double>();
    }
  }
  ASSERT_EQ(cached.size(), 4U);
  EXPECT_NE(cached["cache_quantization"], cached["low_rank"]);
  const Json& last = report["steps"][3];
  EXPECT_EQ(last["step"], "cache_quantization");
  for (const Json& change : last["changes"]) {
    const double expected = change["task"] == "text, cached" ? cached["cache_quantization"] - cached["low_rank"] : 0;
    EXPECT_NEAR(change["difference"].get<double>(), expected, 1e-9) << change << ": weights stay, the cache changes";
  }
}

TEST_F(Attribution, WhatIsKeptWholeCostsNothing) {
  const auto result = attribute(
      {"--no-training", "--set", "compress[0].rope={\"name\":\"all\"}", "--set", "compress[0].low_rank.d_kv=8"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const Json report = result.json();
  ASSERT_EQ(report["steps"].size(), 3U);
  EXPECT_NEAR(value(report["steps"][1]["scores"], "kl_mean"), 0, 1e-9) << "all pairs rotate";
}

TEST_F(Attribution, MistakesAreNamed) {
  const auto refused = [&](const std::vector<std::string>& arguments) {
    const auto result = attribute(arguments);
    EXPECT_EQ(result.exit_code, 2) << result.err;
    return result.err;
  };
  EXPECT_THAT(refused({"--grid", "compress[0].rope.name=high,low"}), HasSubstr("--only: name one of the 2 cells"));
  EXPECT_THAT(refused({"--set", "train.partial_rope_steps=1"}), HasSubstr("train.partial_rope_steps"));
  EXPECT_THAT(refused({"--set", "evaluate=[]"}), HasSubstr("evaluate: attribution needs a text"));
  EXPECT_THAT(refused({"--set", "compress=[]", "--no-training"}), HasSubstr("no step to attribute"));
}

}  // namespace
}  // namespace mla
