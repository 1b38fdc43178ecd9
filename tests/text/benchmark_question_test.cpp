// Benchmarks' files in all their forms.
#include "core/text/benchmark_question.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zlib.h>

#include "core/base/error.h"
#include "core/text/benchmark_prompt.h"
#include "core/text/csv.h"
#include "tests/support/errors.h"
#include "tests/support/shared_data.h"
#include "tests/support/temporary_folder.h"

namespace mla {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class Benchmarks : public testing::Test {
 protected:
  BenchmarkQuestion one(const std::string& row, const std::string& form = "") const {
    const BenchmarkFile file = read_benchmark(folder_.write("rows.jsonl", row + "\n"));
    if (!form.empty()) {
      EXPECT_EQ(file.form, form);
    }
    return file.questions.front();
  }
  MultipleChoiceItem put(const std::string& row, const std::string& prompt) const {
    PromptOptions options;
    options.name = prompt;
    return make_items({one(row)}, {}, options, "prompt").front();
  }
  std::string mistake(const std::string& text, const std::string& name = "rows.jsonl") const {
    return test::message_of<DataError>([&] { read_benchmark(folder_.write(name, text + "\n")); });
  }
  test::TemporaryFolder folder_;
};

TEST_F(Benchmarks, TellTheirFormByTheirFields) {
  const auto arc = one(R"({"query": "Question: Why?", "choices": ["a", "b"], "gold": 1, "id": "q7"})", "choices");
  EXPECT_EQ(arc.question, "Why?");
  EXPECT_EQ(arc.answer, 1);
  EXPECT_EQ(arc.fields.at("id"), "q7");
  EXPECT_EQ(one(R"({"context": "Goal: Go\nAnswer:", "choices": ["a", "b"], "gold": 0})", "choices").question, "Go");
  EXPECT_EQ(one(R"({"context": "x", "choices": [" a", " b"], "answer": 1})", "plain").continuations,
            (std::vector<std::string>{" a", " b"}));
  EXPECT_EQ(one(R"({"context": "x y", "continuation": "z"})", "continuation").choices.size(), 1u);
  EXPECT_EQ(one(R"({"uid": "u", "field": "syntax", "good": "A b.", "bad": "A c."})", "minimal_pair").fields.at("field"),
            "syntax");
  EXPECT_EQ(one(R"({"goal": "g", "sol1": "a", "sol2": "b", "label": 1})", "piqa").answer, 1);
  EXPECT_EQ(
      one(R"({"question": "q", "choices": {"text": ["a", "b"], "label": ["1", "2"]}, "answerKey": "2"})", "ai2").answer,
      1);
  EXPECT_EQ(
      one(R"({"question": {"stem": "q", "choices": [{"text": "a", "label": "A"}, {"text": "b", "label": "B"}]}, "answerKey": "B"})",
          "ai2")
          .answer,
      1);
  EXPECT_EQ(
      one(R"({"question": "q", "choices": ["a", "b"], "answer": 1, "subject": "x_y"})", "mmlu").fields.at("subject"),
      "x_y");
}

/// The templates of lm_eval/tasks, written out.
TEST_F(Benchmarks, AreAskedAsTheHarnessAsks) {
  const auto boolq = put(R"({"passage": "Ice melts.", "question": "does ice melt", "answer": true})", "as_given");
  EXPECT_EQ(boolq.context, "Ice melts.\nQuestion: does ice melt?\nAnswer:");
  EXPECT_THAT(boolq.choices, ElementsAre(" no", " yes"));
  EXPECT_EQ(boolq.answer, 1);
  EXPECT_EQ(one(R"({"passage": "p", "question": "q", "label": 0, "idx": 3})", "boolq").answer, 0);
  const auto copa = put(
      R"({"premise": "My body cast a shadow.", "choice1": "The sun rose.", "choice2": "I left.", "question": "cause", "label": 0})",
      "as_given");
  EXPECT_EQ(copa.context, "My body cast a shadow because");
  EXPECT_THAT(copa.choices, ElementsAre(" the sun rose.", " i left."));
  const auto social = put(
      R"({"context": "Ann ran.", "question": "Why?", "answerA": "late", "answerB": "fun", "answerC": "rain", "label": "2"})",
      "as_given");
  EXPECT_EQ(social.context, "Q: Ann ran. Why?\nA:");
  EXPECT_THAT(social.choices, ElementsAre(" late", " fun", " rain"));
  EXPECT_EQ(social.answer, 1);
  const std::string row =
      R"({"question": "Two?", "choices": ["1", "2"], "answer": "B", "subject": "abstract_algebra"})";
  const auto mmlu = put(row, "mmlu_letters");
  EXPECT_EQ(mmlu.context,
            "The following are multiple choice questions (with answers) about abstract algebra.\n\nTwo?\nA. 1\nB. "
            "2\nAnswer:");
  EXPECT_THAT(mmlu.choices, ElementsAre(" A", " B"));
  const std::string common =
      R"({"question": "Q?", "choices": {"text": ["a", "b"], "label": ["A", "B"]}, "answerKey": "B"})";
  EXPECT_EQ(put(common, "letters").context, "Question: Q?\nA. a\nB. b\nAnswer:");
  EXPECT_THAT(put(common, "letters").choices, ElementsAre(" A", " B"));
  EXPECT_THAT(mistake(R"({"premise": "p", "choice1": "a", "choice2": "b", "question": "why", "label": 0})"),
              HasSubstr("question: expected cause or effect, found why"));
  PromptOptions wrong;
  wrong.context = "{letter}";
  EXPECT_THAT(test::message_of<ConfigError>([&] { make_items({one(row)}, {}, wrong, "prompt"); }),
              HasSubstr("prompt.context: {letter}: "));
}

TEST_F(Benchmarks, AreAskedAsLightevalAsks) {
  const auto item = put(R"({"query": "Question: Why?", "choices": ["a", "b"], "gold": 1})", "arc");
  EXPECT_EQ(item.context, "Question: Why?\nAnswer:");
  EXPECT_THAT(item.choices, ElementsAre(" a", " b"));
  const std::string stem =
      R"({"question_stem": "The sun", "choices": {"text": ["is hot", "is cold"], "label": ["A", "B"]}, "answerKey": "A"})";
  EXPECT_EQ(put(stem, "openbook_qa").context, "The sun");
  const std::string subject =
      R"({"question": "Two?", "choices": ["1", "2"], "answer": "B", "subject": "abstract_algebra"})";
  EXPECT_EQ(put(subject, "mmlu").context,
            "The following are questions about abstract algebra.\nQuestion: Two?\nAnswer:");
  EXPECT_EQ(put(subject, "mmlu").answer, 1);
  const std::string swag =
      R"({"activity_label": "Tango", "ctx_a": "People sit [step] there [title] now.", "ctx_b": "they", "endings": ["go  on", "stop"], "label": "1"})";
  EXPECT_EQ(put(swag, "hellaswag").context, "Tango: People sit there. now. They ");
  EXPECT_THAT(put(swag, "hellaswag").choices, ElementsAre(" go on", " stop"));
}

TEST_F(Benchmarks, AGapInASentenceIsFilledFromEveryForm) {
  const std::string original =
      R"({"sentence": "The bag and the box: the _ was big.", "option1": "bag", "option2": "box", "answer": "2"})";
  const std::string schema =
      R"({"context_options": ["The bag and the box: the bag", "The bag and the box: the box"], "continuation": "was big.", "gold": 1})";
  for (const std::string& row : {original, schema}) {
    const auto item = put(row, "winogrande");
    EXPECT_EQ(item.context, "The bag and the box: the ");
    EXPECT_THAT(item.choices, ElementsAre("bag was big.", "box was big."));
    EXPECT_EQ(item.answer, 1);
  }
  const auto given = put(schema, "as_given");  // which context goes on so
  EXPECT_THAT(given.contexts, ElementsAre("The bag and the box: the bag", "The bag and the box: the box"));
  EXPECT_THAT(given.choices, ElementsAre(" was big.", " was big."));
  const auto partial = make_items(
      read_benchmark(folder_.write("rows.jsonl", original + "\n"), "winogrande_partial").questions, {}, {}, "");
  EXPECT_EQ(partial.front().contexts, given.contexts);
  EXPECT_EQ(partial.front().choices, given.choices);
  EXPECT_EQ(partial.front().answer, 1);
  EXPECT_THAT(put(original, "as_given").contexts, testing::IsEmpty()) << "unless asked for, the whole is compared";
}

TEST_F(Benchmarks, RequestsOfOneQuestionArePutTogether) {
  const auto request = [](int document, int index, const std::string& choice) {
    return R"({"doc": {"query": "Question: Q\nAnswer:", "choices": ["a", "b"], "gold": 1}, "request": {"context": "shots Question: Q\nAnswer:", "continuation": ")" +
           choice + R"("}, "idx": )" + std::to_string(index) + R"(, "doc_id": )" + std::to_string(document) +
           R"(, "label": 1})" + "\n";
  };
  const auto file = folder_.write("requests.jsonl", request(0, 0, " a") + request(0, 1, " b") + request(1, 0, " a") +
                                                        request(1, 1, " b") + request(1000000, 0, " a"));
  const BenchmarkFile read = read_benchmark(file);
  EXPECT_EQ(read.form, "olmes");
  ASSERT_EQ(read.questions.size(), 2u);  // a choice without its question is none
  EXPECT_EQ(read.questions[1].query, "shots Question: Q\nAnswer:");
  EXPECT_EQ(read.questions[1].question, "Q");
  EXPECT_THAT(read.questions[1].continuations, ElementsAre(" a", " b"));
  EXPECT_EQ(read_benchmark(file, "auto", 1).questions.size(), 1u);
}

TEST_F(Benchmarks, FoldersOfCsvAreRead) {
  folder_.write("test/b_c_test.csv", "\"Two, \"\"or\"\"\nmore?\",1,2,3,4,D\n");
  folder_.write("test/a_test.csv", "One?,1,2,3,4,A\r\nTwo?,1,2,3,4,B\r\n");
  const BenchmarkFile read = read_benchmark(folder_ / "test");
  ASSERT_EQ(read.questions.size(), 3u);
  EXPECT_EQ(read.questions[2].question, "Two, \"or\"\nmore?");
  EXPECT_EQ(read.questions[2].fields.at("subject"), "b_c");
  EXPECT_EQ(read.questions[2].answer, 3);
  EXPECT_EQ(read.questions[1].answer, 1);
}

TEST_F(Benchmarks, PackedFilesAreUnpacked) {
  const std::string row = R"({"context": "x", "continuation": "y"})"
                          "\n";
  const std::string path = (folder_ / "rows.jsonl.gz").string();
  for (const char* mode : {"wb", "ab"}) {  // two members
    gzFile file = gzopen(path.c_str(), mode);
    gzwrite(file, row.data(), static_cast<unsigned>(row.size()));
    gzclose(file);
  }
  EXPECT_EQ(read_benchmark(path).questions.size(), 2u);
  std::filesystem::resize_file(path, std::filesystem::file_size(path) - 6);
  EXPECT_THAT(test::message_of<DataError>([&] { read_benchmark(path); }),
              HasSubstr("rows.jsonl.gz: the gzip data is cut short"));
}

TEST_F(Benchmarks, SolvedExamplesComeFirst) {
  std::vector<BenchmarkQuestion> questions;
  for (const char* text : {"1", "2", "3"}) questions.push_back({text, text, {"a", "b"}, {}, {}, 1, {}, {}});
  PromptOptions options;
  options.context = "Q {question}:";
  options.few_shot = 2;
  const auto items = make_items(questions, {}, options, "prompt");
  EXPECT_EQ(items[0].context, "Q 2: b\n\nQ 3: b\n\nQ 1:");  // itself apart
  EXPECT_EQ(items[2].context, "Q 1: b\n\nQ 2: b\n\nQ 3:");
  options.few_shot = 3;
  EXPECT_THAT(test::message_of<ConfigError>([&] { make_items(questions, {}, options, "prompt"); }),
              HasSubstr("prompt.few_shot = 3: there are only 2"));
  options.few_shot = 0;
  options.context = "{qestion}";
  EXPECT_THAT(test::message_of<ConfigError>([&] { make_items(questions, {}, options, "prompt"); }),
              HasSubstr("did you mean 'question'"));
}

TEST_F(Benchmarks, MistakesNameFileAndLine) {
  EXPECT_THAT(mistake(R"({"query": "q", "choices": ["a", "b"], "gold": 2})"),
              HasSubstr("rows.jsonl: line 1: the answer's index 2 is outside 0..1"));
  EXPECT_THAT(mistake(R"({"query": "q", "choices": ["a", " "], "gold": 0})"), HasSubstr("line 1: choices[1] is empty"));
  EXPECT_THAT(mistake(R"({"query": "q", "choices": [], "gold": 0})"), HasSubstr("choices: expected at least 1"));
  EXPECT_THAT(mistake(R"({"query": "q", "choices": ["a", 3], "gold": 0})"),
              HasSubstr("choices[1]: expected a string, found an integer 3"));
  EXPECT_THAT(mistake(R"({"query": "q", "choices": ["a", "b"], "gold": "x"})"),
              HasSubstr("gold: expected the index of a choice"));
  EXPECT_THAT(mistake(R"({"prompt": "q", "options": []})"),
              HasSubstr("fields prompt, options make no known form; known:"));
  EXPECT_THAT(mistake("{\"context\": \"x\", \"continuation\": \"y\"}\n{\"context\": \"x\"}"),
              HasSubstr("line 2: field continuation is missing"));
  EXPECT_THAT(mistake(R"({"sentence": "no gap", "option1": "a", "option2": "b", "answer": "1"})"),
              HasSubstr("has no gap '_'"));
  EXPECT_THAT(mistake("q,a,b,c,d,E", "x_test.csv"),
              HasSubstr("x_test.csv: line 1: the answer's index 4 is outside 0..3"));
  EXPECT_THAT(mistake("q,a", "x_test.csv"), HasSubstr("found 2 cells"));
  EXPECT_THAT(mistake("\"q,a,b,A", "x_test.csv"), HasSubstr("never closed"));
  EXPECT_THAT(mistake(""), HasSubstr("holds no item"));
  EXPECT_THAT(test::message_of<DataError>([&] { read_benchmark(folder_ / "none.jsonl"); }), HasSubstr("none.jsonl"));
  EXPECT_THAT(test::message_of<ConfigError>([&] { read_benchmark("x", "choises"); }),
              HasSubstr("did you mean 'choices'"));
}

TEST(SharedBenchmarks, AllAreRead) {
  const std::string folder = "data/benchmarks";
  MLA_NEEDS_SHARED(folder);
  const auto root = test::shared_folder() / folder;
  EXPECT_EQ(read_benchmark(root / "mmlu/test").questions.size(), 14042u);
  EXPECT_EQ(read_benchmark(root / "blimp").questions.size(), 67000u);
  EXPECT_EQ(read_benchmark(root / "piqa/valid.jsonl").questions.size(), 1838u);
  EXPECT_EQ(read_benchmark(root / "olmes/winogrande/rc_0shot/requests.jsonl.gz").questions.size(), 1267u);
  EXPECT_EQ(read_benchmark(root / "olmes/arc_challenge/rc_0shot/requests.jsonl.gz").questions.size(), 299u);
  for (const char* file : {"mc_simple/csqa", "mc_simple/socialiqa", "mc_simple/sciq", "llm-foundry/copa",
                           "llm-foundry/winograd_wsc", "llm-foundry/lambada_openai"}) {
    EXPECT_GE(read_benchmark(root / (std::string(file) + ".jsonl")).questions.size(), 100u) << file;
  }
}

TEST(SharedBenchmarks, WinograndeIsTheSameFromBothItsForms) {
  const std::string folder = "data/benchmarks";
  MLA_NEEDS_SHARED(folder);
  PromptOptions options;
  options.name = "winogrande";
  const auto original = make_items(
      read_benchmark(test::shared_folder() / folder / "olmes/winogrande/rc_0shot/requests.jsonl.gz").questions, {},
      options, "");
  const auto schema = make_items(
      read_benchmark(test::shared_folder() / folder / "llm-foundry/winogrande.jsonl").questions, {}, options, "");
  ASSERT_EQ(original.size(), schema.size());
  std::size_t same = 0;
  for (std::size_t i = 0; i < original.size(); ++i)
    same += original[i].context + original[i].choices[0] == schema[i].context + schema[i].choices[0];
  EXPECT_GT(same, original.size() * 9 / 10);
}

}  // namespace
}  // namespace mla
