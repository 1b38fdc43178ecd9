// LongBench's metrics against scores that their reference implementations gave.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <set>

#include "core/base/error.h"
#include "core/base/registry.h"
#include "core/metrics/chinese_segmenter.h"
#include "core/metrics/prediction_scores.h"
#include "core/metrics/rouge_l.h"
#include "core/metrics/sequence_matcher.h"
#include "core/metrics/text_metric.h"
#include "core/metrics/unicode_text.h"
#include "core/text/json_lines.h"
#include "tests/support/errors.h"
#include "tests/support/shared_data.h"
#include "tests/support/temporary_folder.h"

namespace mla {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

double score(const std::string& metric, const std::string& prediction, const std::string& reference,
             const std::vector<std::string>& classes = {}) {
  return Registry<TextMetric>::instance().make({{"name", metric}}, "metric")->score(prediction, reference, classes);
}

TEST(LongBenchScores, EqualThoseOfTheOfficialEvaluation) {
  const std::string vectors = "data/conformance/mha2mla_longbench_scores/vectors.jsonl";
  MLA_NEEDS_SHARED(vectors);
  constexpr double kTolerance = 1e-9;
  std::size_t count = 0;
  std::set<std::string> tasks;
  const auto predictions = read_predictions(test::shared_folder() / vectors);
  read_json_lines(test::shared_folder() / vectors, [&](const Json& json, const std::string& where) {
    const Prediction& prediction = predictions[count++];
    const LongBenchTask& task = longbench_task(prediction.dataset, "dataset");
    tasks.insert(task.name);
    EXPECT_NEAR(score_prediction(task, prediction), json["score"].get<double>(), kTolerance)
        << where << " " << task.name;
    return true;
  });
  EXPECT_GT(count, 500u);
  EXPECT_EQ(tasks.size(), longbench_tasks().size());
}

TEST(LongBenchTasks, AreTheOfficialOnes) {
  const std::string config = "data/longbench/reference/config/";
  MLA_NEEDS_SHARED(config);
  const Json prompts = read_json(test::shared_folder() / (config + "dataset2prompt.json"));
  const Json lengths = read_json(test::shared_folder() / (config + "dataset2maxlen.json"));
  EXPECT_EQ(longbench_tasks().size(), prompts.size());
  for (const LongBenchTask& task : longbench_tasks()) {
    EXPECT_EQ(task.prompt, prompts[task.name].get<std::string>());
    EXPECT_EQ(task.new_tokens, lengths[task.name].get<std::int64_t>());
  }
  EXPECT_EQ(longbench_prompt(longbench_task("lcc", ""), "{input}", "x"),
            "Please complete the code given below. \n{input}Next line of code:\n");
}

TEST(QaF1, DropsCasePunctuationAndArticles) {
  EXPECT_EQ(score("qa_f1", "The  Cat, sat!", "a cat sat"), 1);
  EXPECT_DOUBLE_EQ(score("qa_f1", "cat cat", "cat"), 2.0 / 3);
  EXPECT_EQ(score("qa_f1", "the", "the"), 0);  // nothing is left to share
  EXPECT_DOUBLE_EQ(score("qa_f1", "an_a theory", "theory"), 2.0 / 3);
}

TEST(RougeL, CountsDistinctWordsOfAllSentences) {
  EXPECT_EQ(rouge_l("", "a"), 0);
  EXPECT_EQ(rouge_l("..", "a"), 0);
  EXPECT_NEAR(rouge_l("a b c", "a b c"), 1, 1e-7);
  // Words in common: {a, b}. Recall 2/4, precision 2/3.
  EXPECT_NEAR(rouge_l("a a b x", "a c. b d"), 2.0 * (0.5 * 2 / 3) / (0.5 + 2.0 / 3 + 1e-8), 1e-12);
}

TEST(Classification, PassesOverTheNameAfterOneThatItDrops) {
  EXPECT_EQ(score("classification", "x Date", "Date", {"Food", "Date"}), 1);
  EXPECT_EQ(score("classification", "Food or Date", "Date", {"Food", "Date"}), 0.5);
  // "Other" and "Other e" are parts of the right name; the second stays, since the walk has moved on.
  EXPECT_EQ(score("classification", "Other entity", "Other entity", {"Other", "Other e", "Other entity"}), 0.5);
  EXPECT_THAT(test::message_of<DataError>([] { score("classification", "x", "y"); }), HasSubstr("all classes"));
}

TEST(NumberShares, CountDigitsOfAllScripts) {
  EXPECT_DOUBLE_EQ(score("count", "1, 2, 12", "2"), 1.0 / 3);
  EXPECT_EQ(score("count", "none", "2"), 0);
  EXPECT_DOUBLE_EQ(score("count", "２ 2", "2"), 0.5);
  EXPECT_EQ(score("retrieval", "Paragraph 3", "Paragraph 3"), 1);
  EXPECT_THAT(test::message_of<DataError>([] { score("retrieval", "3", "3"); }), HasSubstr("'3'"));
}

TEST(SequenceMatcher, FollowsDifflib) {
  const auto ratio = [](const std::string& a, const std::string& b) {
    return matching_ratio(to_code_points(a), to_code_points(b));
  };
  EXPECT_DOUBLE_EQ(ratio("abcd", "bcde"), 0.75);
  EXPECT_DOUBLE_EQ(ratio("tide", "diet"), 0.25);  // the order of the two matters
  EXPECT_DOUBLE_EQ(ratio("diet", "tide"), 0.5);
  // From 200 characters on, common ones begin no block.
  const std::string lone = "xa", many(200, 'a');
  EXPECT_EQ(ratio(lone, many), 0);
  EXPECT_DOUBLE_EQ(ratio(lone, many.substr(1)), 2.0 / 201);
  EXPECT_EQ(fuzzy_percent(U"", U""), 100);
  EXPECT_EQ(fuzzy_percent(U"a", U""), 0);
}

TEST(CodeSimilarity, ComparesTheFirstLineThatIsCode) {
  EXPECT_EQ(score("code_similarity", "\n\n# note\nx = 1\ny", "x = 1"), 1);
  EXPECT_EQ(score("code_similarity", "`a`\n//b", "x"), 0);
}

TEST(ChineseSegmenter, CutsAsJieba) {
  if (!std::filesystem::exists("/usr/lib/python3/dist-packages/jieba/dict.txt") && !std::getenv("MLA_JIEBA"))
    GTEST_SKIP() << "python3-jieba is not installed";
  const auto cut = [](const std::string& text) {
    std::vector<std::string> words;
    for (const auto& word : ChineseSegmenter::instance().cut(to_code_points(text))) words.push_back(to_utf8(word));
    return words;
  };
  EXPECT_THAT(cut("我来到北京清华大学"), ElementsAre("我", "来到", "北京", "清华大学"));
  EXPECT_THAT(cut("他来到了网易杭研大厦"),
              ElementsAre("他", "来到", "了", "网易", "杭研", "大厦"));  // 杭研 is in no dictionary
  EXPECT_THAT(cut("涨3.5%， v2.0 \r\n"), ElementsAre("涨", "3.5%", "，", " ", "v2.0", " ", "\r\n"));
  EXPECT_TRUE(cut("").empty());
}

TEST(ChineseSegmenter, NamesWhatIsMissing) {
  const test::TemporaryFolder folder;
  EXPECT_THAT(test::message_of<DataError>([&] { ChineseSegmenter segmenter(folder.path()); }), HasSubstr("dict.txt"));
  folder.write("dict.txt", "北京 12 ns\nbroken\n");
  EXPECT_THAT(test::message_of<DataError>([&] { ChineseSegmenter segmenter(folder.path()); }), HasSubstr("dict.txt:2"));
}

TEST(Predictions, ErrorsNameFileAndLine) {
  const test::TemporaryFolder folder;
  const auto message = [&](const std::string& line) {
    const auto file = folder.write("p.jsonl", "{\"pred\": \"x\", \"answers\": [\"y\"]}\n" + line + "\n");
    return test::message_of<DataError>([&] { read_predictions(file); });
  };
  EXPECT_THAT(message(R"({"answers": ["y"]})"), HasSubstr("p.jsonl: line 2: field pred is missing"));
  EXPECT_THAT(message(R"({"pred": 3, "answers": ["y"]})"), HasSubstr("pred: expected a string"));
  EXPECT_THAT(message(R"({"pred": "x"})"), HasSubstr("field answers is missing"));
  EXPECT_THAT(message(R"({"pred": "x", "answers": [1]})"), HasSubstr("answers: expected texts, found an integer 1"));
  EXPECT_THAT(message("[]"), HasSubstr("expected an object"));
  EXPECT_THAT(message("{"), HasSubstr("line 2"));
}

}  // namespace
}  // namespace mla
