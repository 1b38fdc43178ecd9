// Ways of asking that a config chooses: windows and words of a text, what choices are likely without their question,
// answers in words.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <set>
#include <string>

#include "core/store/record.h"
#include "core/text/corpus.h"
#include "tests/support/run_program.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_model_folder.h"

namespace mla {
namespace {

using testing::HasSubstr;

class Asking : public testing::Test {
 protected:
  void SetUp() override {
    test::write_tiny_model(folder_ / "model");
    folder_.write("text.jsonl", "{\"text\": \"ab abc  ab\\ncab ba\"}\n{\"text\": \" b a\"}\n");
    folder_.write("rows.jsonl", R"({"question": "ab", "answer": "cab #### 12", "other": {"aliases": ["x", "b"]}}
{"question": "abc", "answer": "ba #### 7", "other": {"aliases": ["a"]}}
)");
    folder_.write("choices.jsonl", R"({"query": "ab", "choices": ["ab", "cab", "b"], "gold": 1}
{"query": "b", "choices": ["a", "c", "bb"], "gold": 0}
)");
  }
  test::ProgramResult text(std::vector<std::string> more = {}) const {
    more.insert(more.begin(), {"evaluate", "--model", (folder_ / "model").string(), "--perplexity",
                               (folder_ / "text.jsonl").string(), "--context", "8", "--json"});
    return test::run_program(more);
  }
  test::ProgramResult tasks(const std::string& entries, std::vector<std::string> more = {}) const {
    const auto config = folder_.write_config("tasks.json", R"({"evaluate": [)" + entries + "]}");
    more.insert(more.begin(),
                {"evaluate", "--model", (folder_ / "model").string(), "--tasks", config.string(), "--json", "--quiet"});
    return test::run_program(more);
  }
  test::TemporaryFolder folder_;
};

TEST_F(Asking, WordsAreThoseOfTheHarness) {
  EXPECT_EQ(count_words("ab abc  ab\ncab ba"), 5);
  EXPECT_EQ(count_words(" b a"), 3) << "re.split counts what stands before the first space";
  EXPECT_EQ(count_words(""), 1);
  EXPECT_EQ(count_words("a\u2003b\u00a0"), 3);
}

TEST_F(Asking, RollingWindowsGiveThePerplexitiesOfWordsAndBytes) {
  const auto result = text({"--windows", "rolling"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const Json report = result.json();
  const double nats = report["mean_nll"].get<double>() * report["tokens"].get<double>();
  EXPECT_EQ(report["windows"], "rolling");
  EXPECT_NEAR(report["word_perplexity"].get<double>() / std::exp(nats / 8), 1, 1e-9);
  EXPECT_NEAR(report["byte_perplexity"].get<double>() / std::exp(nats / 21), 1, 1e-9);
  EXPECT_NEAR(report["bits_per_byte"].get<double>(), nats / 21 / std::log(2.0), 1e-9);
  EXPECT_NE(text().json()["perplexity"], report["perplexity"]);
  EXPECT_EQ(text({"--windows", "strided"}).json()["perplexity"], text().json()["perplexity"]);
  EXPECT_GT(text({"--windows", "bos_per_window"}).json()["tokens"].get<int>(), text().json()["tokens"].get<int>());
  EXPECT_THAT(text({"--windows", "round"}).err, HasSubstr("--windows: no 'round'"));
  EXPECT_THAT(text({"--windows", "rolling", "--stride", "4"}).err, HasSubstr("--stride belongs to strided windows"));
}

TEST_F(Asking, AConfigAsksTheSame) {
  const auto config = folder_.write_config("run.json", R"({"model": {"path": "@/model"}, "results": "@/results",
    "evaluate": [{"task": "perplexity", "context": 8, "data": {"files": ["@/text.jsonl"]},
                  "perplexity": {"windows": "rolling", "per_word": true}}]})");
  const auto run = [&](std::vector<std::string> more) {
    more.insert(more.begin(), {"run", config.string(), "--quiet", "--json", "--force"});
    return test::run_program(more);
  };
  const auto result = run({});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  std::set<std::string> metrics;
  for (const ScoreRecord& score : read_record(result.json()["cells"][0]["record"].get<std::string>()).evaluation)
    metrics.insert(score.metric);
  EXPECT_TRUE(metrics.contains("word_perplexity"));
  EXPECT_TRUE(metrics.contains("byte_perplexity"));
  EXPECT_THAT(run({"--set", "evaluate[0].stride=4"}).err,
              HasSubstr("evaluate[0].stride = 4: belongs to strided windows"));
}

TEST_F(Asking, ChoicesAreComparedWithoutTheirQuestions) {
  const std::string entry = R"({"task": "multiple_choice", "items": "@/choices.jsonl")";
  const auto plain = tasks(entry + "}"), asked = tasks(entry + R"(, "multiple_choice": {"per_token": true,
    "unconditional": "Answer:", "truncation": "right"}})");
  ASSERT_EQ(asked.exit_code, 0) << asked.err;
  const Json scores = asked.json()["tasks"]["multiple_choice"], before = plain.json()["tasks"]["multiple_choice"];
  EXPECT_EQ(scores["accuracy"], before["accuracy"]);
  for (const char* metric : {"accuracy_per_token", "accuracy_pmi"}) {
    EXPECT_TRUE(scores.contains(metric)) << metric;
    EXPECT_FALSE(before.contains(metric)) << metric;
  }
}

TEST_F(Asking, AnswersInWordsAreMatchedWithTheirReferences) {
  const std::string entry = R"({"task": "generation", "name": "math", "items": "@/rows.jsonl",
    "prompt": {"context": "Question: {question}\nAnswer:", "few_shot": 1}, "generation": {"new_tokens": 6,)";
  const auto any =
      tasks(entry + R"("extract": "^", "ignore": ["[\\s\\S]*"]}})", {"--predictions", (folder_ / "said").string()});
  ASSERT_EQ(any.exit_code, 0) << any.err;
  EXPECT_EQ(any.json()["tasks"]["math.rows"]["score"]["value"], 1) << "nothing is left to be wrong";
  const auto none = tasks(entry + R"x("extract": "#### (no such)"}})x");
  ASSERT_EQ(none.exit_code, 0) << none.err;
  EXPECT_EQ(none.json()["tasks"]["math"]["score"]["value"], 0);
  EXPECT_EQ(none.json()["tasks"]["math.rows"]["score"]["n"], 2);
  EXPECT_EQ(tasks(entry + R"x("answers": "other.aliases", "stop": ["c"]}})x").exit_code, 0);
  EXPECT_THAT(tasks(entry + R"x("answers": "none"}})x").err, HasSubstr("rows.jsonl: line 1: field none is missing"));
  EXPECT_THAT(tasks(entry + R"x("extract": "("}})x").err, HasSubstr("generation.extract = (: no regular expression"));
}

}  // namespace
}  // namespace mla
