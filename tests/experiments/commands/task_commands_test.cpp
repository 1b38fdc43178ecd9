// The commands requests, score-predictions and evaluate --tasks.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <xxhash.h>

#include <cstdio>
#include <set>
#include <tuple>

#include "core/text/json_lines.h"
#include "tests/support/run_program.h"
#include "tests/support/shared_data.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_model_folder.h"

namespace mla {
namespace {

using test::run_program;
using testing::HasSubstr;

/// A row of lighteval's details, and what we make of it, agree on every token and every accuracy.
void expect_same(const Json& told, const Json& ours) {
  const std::string where = told["task"].get<std::string>() + " " + told["idx"].dump();
  EXPECT_EQ(ours["choices"], told["choices"]) << where;
  EXPECT_EQ(ours["gold"], told["gold"]) << where;
  EXPECT_EQ(ours["input_tokens"], told["input_tokens"]) << where;
  EXPECT_EQ(ours["cont_tokens"], told["cont_tokens"]) << where;
  if (ours.contains("acc_norm")) {
    EXPECT_EQ(ours["acc_norm"], told["acc_norm"]) << where;
  }
}

TEST(Requests, AreLightevalsTokenForToken) {
  const std::string folder = "data/conformance/smollm135m_lighteval", tokenizer = "data/tokenizers/smollm";
  MLA_NEEDS_SHARED(folder);
  MLA_NEEDS_SHARED(tokenizer);
  std::size_t files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(test::shared_folder() / folder)) {
    if (entry.path().extension() != ".jsonl") continue;
    ++files;
    const auto result = run_program(
        {"requests", entry.path().string(), "--tokenizer", (test::shared_folder() / tokenizer).string(), "--json"});
    ASSERT_EQ(result.exit_code, 0) << result.err;
    const Json report = result.json();
    std::size_t row = 0;
    double right = 0;
    read_json_lines(entry.path(), [&](const Json& told, const std::string&) {
      expect_same(told, report["items"].at(row++));
      right += told["acc_norm"].get<double>();
      return true;
    });
    ASSERT_EQ(row, report["items"].size());
    EXPECT_EQ(report["acc_norm"].get<double>(), right / static_cast<double>(row));
  }
  EXPECT_GE(files, 3u);
}

TEST(Requests, ComeOutAlikeFromTheBenchmarksOwnFiles) {
  const std::string folder = "data/conformance/smollm135m_lighteval", benchmarks = "data/benchmarks/mc_simple/";
  MLA_NEEDS_SHARED(folder);
  MLA_NEEDS_SHARED(benchmarks);
  for (const auto& [task, file, prompt] :
       {std::tuple{"piqa", "piqa_val", "piqa"}, {"arc_challenge", "arc_challenge_test", "arc"}}) {
    const auto result = run_program(
        {"requests", (test::shared_folder() / (benchmarks + std::string(file) + ".jsonl")).string(), "--prompt", prompt,
         "--tokenizer", (test::shared_folder() / "data/tokenizers/smollm").string(), "--json"});
    ASSERT_EQ(result.exit_code, 0) << result.err;
    std::multiset<std::string> ours, told;
    const auto line = [](const Json& row) {
      return Json::array({row["input_tokens"], row["cont_tokens"], row["gold"]}).dump();
    };
    const Json report = result.json();
    for (const Json& item : report["items"]) ours.insert(line(item));
    read_json_lines(test::shared_folder() / folder / (std::string(task) + ".jsonl"),
                    [&](const Json& row, const std::string&) {
                      told.insert(line(row));
                      return true;
                    });
    EXPECT_TRUE(ours == told) << task;
  }
}

/// lighteval's digest of a task: of the sorted digests of its prompts.
std::string digest_of(const Json& items) {
  const auto hex = [](const std::string& text) {
    char digits[17];
    std::snprintf(digits, sizeof digits, "%016llx",
                  static_cast<unsigned long long>(XXH64(text.data(), text.size(), 0)));
    return std::string(digits);
  };
  std::multiset<std::string> digests;
  for (const Json& item : items) digests.insert(hex(item["full_prompt"].get<std::string>()));
  std::string joined;
  for (const std::string& digest : digests) joined += digest;
  return hex(joined);
}

TEST(Requests, HaveThePromptsOfThePublishedRunByTheirDigests) {
  const std::string results = "data/conformance/smollm135m_lighteval/results_2024-12-23T23-48-47.json",
                    benchmarks = "data/benchmarks/";
  MLA_NEEDS_SHARED(results);
  MLA_NEEDS_SHARED(benchmarks);
  const Json summary = read_json(test::shared_folder() / results)["summary_tasks"];
  for (const auto& [task, file, prompt] :
       {std::tuple{"arc:easy", "mc_simple/arc_easy_test.jsonl", "arc"},
        {"arc:challenge", "mc_simple/arc_challenge_test.jsonl", "arc"},
        {"piqa", "mc_simple/piqa_val.jsonl", "piqa"},
        {"openbook_qa", "olmes/openbookqa/rc_0shot/requests.jsonl.gz", "openbook_qa"},
        {"winogrande", "olmes/winogrande/rc_0shot/requests.jsonl.gz", "winogrande"}}) {
    const auto result =
        run_program({"requests", (test::shared_folder() / (benchmarks + std::string(file))).string(), "--prompt",
                     prompt, "--tokenizer", (test::shared_folder() / "data/tokenizers/smollm").string(), "--json"});
    ASSERT_EQ(result.exit_code, 0) << result.err;
    EXPECT_EQ(digest_of(result.json()["items"]),
              summary["custom|" + std::string(task) + "|0"]["hashes"]["hash_full_prompts"])
        << task;
  }
}

TEST(ScorePredictions, TellsEachScoreAndTheMean) {
  const test::TemporaryFolder folder;
  const auto file =
      folder.write("p.jsonl", R"({"_id": "a", "pred": "the cat", "answers": ["dog", "cat"], "dataset": "narrativeqa"}
{"_id": "b", "pred": "no", "answers": ["yes"], "dataset": "narrativeqa"}
{"_id": "c", "pred": "3", "answers": ["3"], "dataset": "passage_count"}
)");
  const auto one = run_program({"score-predictions", "--task", "narrativeqa", file.string(), "--json"});
  ASSERT_EQ(one.exit_code, 0) << one.err;
  EXPECT_EQ(one.json()["scores"], Json({1.0, 0.0}));
  EXPECT_EQ(one.json()["ids"], Json({"a", "b"}));
  EXPECT_EQ(one.json()["mean"], 0.5);
  EXPECT_EQ(one.json()["percent"], 50.0);
  const auto all = run_program({"score-predictions", file.string(), "--json"});
  EXPECT_EQ(all.json()["scores"], Json({1.0, 0.0, 1.0}));
  EXPECT_EQ(all.json()["mean"], 0.75);
  EXPECT_EQ(run_program({"score-predictions", "--task", "narrativqa", file.string()}).exit_code, 2);
  const auto none = run_program({"score-predictions", "--task", "lcc", file.string()});
  EXPECT_EQ(none.exit_code, 3);
  EXPECT_THAT(none.err, HasSubstr("none of its 3 predictions is of the task lcc"));
  const auto classes = run_program(
      {"score-predictions", "--task", "trec", folder.write("t.jsonl", R"({"pred": "x", "answers": ["y"]})").string()});
  EXPECT_EQ(classes.exit_code, 3);
  EXPECT_THAT(classes.err, HasSubstr("t.jsonl: prediction 1: the metric classification needs"));
}

class EvaluateTasks : public testing::Test {
 protected:
  void SetUp() override {
    test::write_tiny_model(folder_ / "model");
    std::string rows, passages, questions;
    for (int i = 0; i < 12; ++i) {
      const std::string text = "ab cab " + std::string(static_cast<std::size_t>(1 + i), 'b');
      rows += R"({"query": ")" + text + R"(", "choices": ["ab", "cab", "b"], "gold": )" + std::to_string(i % 3) +
              R"(, "kind": "k)" + std::to_string(i % 2) + "\"}\n";
      passages += R"({"context": ")" + text +
                  R"(", "continuation": "ab"})"
                  "\n";
      questions += R"({"_id": "q)" + std::to_string(i) + R"(", "context": ")" + text +
                   R"(", "input": "ab", "answers": ["ab"], "all_classes": null, "dataset": "triviaqa"})"
                   "\n";
    }
    folder_.write("rows.jsonl", rows);
    folder_.write("passages.jsonl", passages);
    folder_.write("long/triviaqa.jsonl", questions);
    config_ = folder_.write_config("tasks.json", R"({"evaluate": [
      {"task": "multiple_choice", "name": "rows", "items": "@/rows.jsonl", "prompt": {"group_by": "kind"}},
      {"task": "multiple_choice", "name": "passages", "items": "@/passages.jsonl"},
      {"task": "multiple_choice", "name": "again", "items": "@/rows.jsonl", "prompt": {"few_shot": 1}},
      {"task": "longbench", "name": "long", "items": "@/long", "longbench": {"max_tokens": 48}},
      {"task": "mean", "name": "both", "of": ["rows", "again"]}]})");
  }
  test::ProgramResult run(std::vector<std::string> more = {}) const {
    more.insert(more.begin(), {"evaluate", "--model", (folder_ / "model").string(), "--tasks", config_.string(),
                               "--keep", (folder_ / "keep").string(), "--json", "--quiet"});
    return run_program(more);
  }
  test::TemporaryFolder folder_;
  std::filesystem::path config_;
};

TEST_F(EvaluateTasks, ScoresEveryTask) {
  const auto result = run({"--output", (folder_ / "out.json").string(), "--predictions", (folder_ / "said").string()});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const Json tasks = result.json()["tasks"], samples = read_json(folder_ / "out.json")["tasks"];
  EXPECT_EQ(tasks["rows"]["accuracy_normalized"]["n"], 12);
  EXPECT_EQ(tasks["rows"]["accuracy.k1"]["n"], 6);
  EXPECT_EQ(samples["rows"]["log_likelihood"]["per_sample"].size(), 36u);
  EXPECT_EQ(samples["rows"]["choice_bytes"]["per_sample"][1], 3);
  EXPECT_EQ(tasks["passages"]["accuracy_greedy"]["n"], 12);
  EXPECT_TRUE(tasks["passages"].contains("perplexity"));
  EXPECT_FALSE(tasks["passages"].contains("accuracy"));
  EXPECT_EQ(tasks["long.triviaqa"]["score"]["n"], 12);
  EXPECT_DOUBLE_EQ(
      tasks["both"]["accuracy"]["value"].get<double>(),
      (tasks["rows"]["accuracy"]["value"].get<double>() + tasks["again"]["accuracy"]["value"].get<double>()) / 2);
  EXPECT_FALSE(std::filesystem::exists(folder_ / "keep") && !std::filesystem::is_empty(folder_ / "keep"))
      << "nothing is left to go on from";
  // What was answered can be scored again without the model.
  const auto rescored = run_program({"score-predictions", (folder_ / "said/triviaqa.jsonl").string(), "--json"});
  EXPECT_DOUBLE_EQ(rescored.json()["mean"].get<double>(), tasks["long.triviaqa"]["score"]["value"].get<double>());
}

TEST_F(EvaluateTasks, OnlyAndLimitLeaveOut) {
  const Json tasks = run({"--only", "passages", "--max-items", "5"}).json()["tasks"];
  EXPECT_EQ(tasks.size(), 1u);
  EXPECT_EQ(tasks["passages"]["accuracy_greedy"]["n"], 5);
  const auto unknown = run({"--only", "pasages"});
  EXPECT_EQ(unknown.exit_code, 2);
  EXPECT_THAT(unknown.err, HasSubstr("did you mean 'passages'"));
}

TEST_F(EvaluateTasks, MistakesAreNamed) {
  const auto error = [&](const std::string& evaluations, int code) {
    config_ = folder_.write("wrong.json", R"({"evaluate": )" + evaluations + "}");
    const auto result = run();
    EXPECT_EQ(result.exit_code, code) << result.err;
    return result.err;
  };
  const std::string rows = (folder_ / "rows.jsonl").string();
  EXPECT_THAT(error(R"([{"task": "multiple_choice", "items": ")" + (folder_ / "none.jsonl").string() + "\"}]", 3),
              HasSubstr("none.jsonl"));
  EXPECT_THAT(error(R"([{"task": "multiple_choice", "items": ")" + rows + R"(", "prompt": {"name": "ark"}}])", 2),
              HasSubstr("did you mean 'arc'"));
  EXPECT_THAT(error(R"([{"task": "multiple_choice", "items": ")" + rows + R"(", "form": "chioces"}])", 2),
              HasSubstr("did you mean 'choices'"));
  EXPECT_THAT(error(R"([{"task": "mean", "of": ["arc"]}])", 2), HasSubstr("evaluate[0].of[0]"));
  EXPECT_THAT(error(R"([{"task": "perplexity", "data": {"files": ["x"]}}])", 2),
              HasSubstr("--tasks takes multiple_choice, generation, longbench, longeval, ruler, speed and mean, "
                        "not perplexity"));
  EXPECT_THAT(error(R"([{"task": "longbench", "items": ")" + (folder_ / "long").string() +
                        R"(", "longbench": {"max_tokens": 33}}])",
                    2),
              HasSubstr("leaves no room"));
  EXPECT_THAT(error(R"([{"task": "longbench", "items": ")" + (folder_ / "long").string() +
                        R"(", "longbench": {"tasks": ["trivia"]}}])",
                    2),
              HasSubstr("did you mean 'triviaqa'"));
}

}  // namespace
}  // namespace mla
