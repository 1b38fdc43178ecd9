// Tasks answered in words: RULER's and LongEval's files, and what a chat template makes of questions.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "core/base/fields.h"
#include "core/base/progress.h"
#include "core/store/record.h"
#include "experiments/cell/session.h"
#include "experiments/tasks/evaluation_task.h"
#include "tests/support/errors.h"
#include "tests/support/run_program.h"
#include "tests/support/shared_data.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_model_folder.h"

namespace mla {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

class QuestionTasks : public testing::Test {
 protected:
  void SetUp() override {
    test::write_tiny_model(folder_ / "model");
    folder_.write("ruler/niah_single_1_64.jsonl", R"({"index": 3, "input": "a b", "outputs": ["ab", "no such text"]}
{"index": 4, "input": "b a", "outputs": [""]})");
    folder_.write("ruler/qa_1_64.jsonl", R"({"index": 0, "input": "a b", "outputs": ["b", "no such text"]})");
    folder_.write("longeval/2_topics.jsonl", R"({"test_id": 7, "prompt": "a b", "topics": ["ab", "b"]})");
  }
  /// Of `mlaforge evaluate --tasks` with these entries.
  test::ProgramResult run(const std::string& entries, std::vector<std::string> more = {}) const {
    const auto config = folder_.write_config("tasks.json", R"({"evaluate": [)" + entries + "]}");
    more.insert(more.begin(),
                {"evaluate", "--model", (folder_ / "model").string(), "--tasks", config.string(), "--json", "--quiet",
                 "--keep", (folder_ / "keep").string(), "--predictions", (folder_ / "said").string()});
    return test::run_program(more);
  }
  std::string refusal(const std::string& entries, int code) const {
    const auto result = run(entries);
    EXPECT_EQ(result.exit_code, code) << result.err;
    return result.err;
  }
  void write_chatml() const { folder_.write("model/chat_template.jinja", "<|im_start|>{{ role }}<|im_end|>"); }
  test::TemporaryFolder folder_;
};

TEST_F(QuestionTasks, RulersFilesAreTasksWhoseAnswersAreMatched) {
  folder_.write("ruler/niah_single_1_64.jsonl", R"({"index": 3, "input": "a b", "outputs": ["ab", "no such text"]})");
  // The tiny model has 64 positions, too few beside the 128 tokens of a needle's answer.
  const auto result = run(R"({"task": "ruler", "items": "@/ruler", "ruler": {"tasks": ["qa_1_64"]}})");
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const Json tasks = result.json()["tasks"];
  EXPECT_EQ(tasks["ruler.qa_1_64"]["score"]["n"], 1);
  EXPECT_EQ(tasks["ruler"]["score"]["value"], tasks["ruler.qa_1_64"]["score"]["value"]);
  EXPECT_FALSE(tasks.contains("ruler.niah_single_1_64"));
  const Json said = read_json(folder_ / "said/qa_1_64.jsonl");
  EXPECT_EQ(said["_id"], "0");
  const std::string text = said["pred"];
  EXPECT_EQ(said["score"], text.find('b') != std::string::npos ? 1.0 : 0.0);
  EXPECT_THAT(refusal(R"({"task": "ruler", "items": "@/ruler"})", 2),
              HasSubstr("evaluate.ruler.ruler.max_tokens = 64: leaves no room for a prompt beside the 128 tokens of an "
                        "answer to niah_single_1_64"));
}

TEST_F(QuestionTasks, PromptsThatAreTooLongAreCountedAndLeftOut) {
  std::string lines;
  for (const int length : {3, 60, 4}) {
    lines += R"({"input": ")" + std::string(static_cast<std::size_t>(length), 'b') + R"(", "outputs": ["b"]})" + "\n";
  }
  folder_.write("ruler/vt_64.jsonl", lines);
  const std::string entry = R"({"task": "ruler", "items": "@/ruler/vt_64.jsonl")";
  const auto result = run(entry + "}");
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const Json tasks = result.json()["tasks"];
  EXPECT_EQ(tasks["ruler.vt_64"]["score"]["n"], 2);
  EXPECT_EQ(tasks["ruler.vt_64"]["too_long"]["value"], 1);
  EXPECT_EQ(tasks["ruler.vt_64"]["too_long"]["n"], 3);
  EXPECT_THAT(refusal(entry + R"(, "ruler": {"max_tokens": 32}})", 3),
              HasSubstr("every prompt, with its answer, is longer than 32 tokens"));
}

TEST_F(QuestionTasks, DamagedFilesAreNamed) {
  const auto error = [&](const std::string& file, const std::string& line) {
    folder_.write("bad/" + file, line);
    const std::string task = file.find("_") != std::string::npos && file.starts_with("vt") ? "ruler" : "longeval";
    return refusal(R"({"task": ")" + task + R"(", "items": "@/bad/)" + file + R"("})", 3);
  };
  EXPECT_THAT(error("vt_1.jsonl", R"({"outputs": ["b"]})"), HasSubstr("vt_1.jsonl: line 1: field input is missing"));
  EXPECT_THAT(error("vt_1.jsonl", R"({"input": "b", "outputs": []})"),
              HasSubstr("outputs: expected at least one text"));
  EXPECT_THAT(error("vt_1.jsonl", R"({"input": "b", "outputs": [""]})"), HasSubstr("none of them empty"));
  EXPECT_THAT(error("vt_1.jsonl", R"({"input": 3, "outputs": ["b"]})"), HasSubstr("input: expected a string"));
  EXPECT_THAT(error("vt_1.jsonl", ""), HasSubstr("vt_1.jsonl: holds no item"));
  EXPECT_THAT(error("9_lines.jsonl", R"({"prompt": "b", "expected_number": -1})"),
              HasSubstr("expected_number: expected a whole number from 0 on, found -1"));
  EXPECT_THAT(error("9_lines.jsonl", R"({"prompt": "b"})"), HasSubstr("either expected_number or topics"));
  EXPECT_THAT(error("9_lines.jsonl", R"({"prompt": "b", "expected_number": 1}
{"prompt": "b", "topics": ["b"]})"),
              HasSubstr("9_lines.jsonl: line 2: a file holds either lines or topics, not both"));
  folder_.write("odd/haystack.jsonl", R"({"input": "b", "outputs": ["b"]})");
  EXPECT_THAT(refusal(R"({"task": "ruler", "items": "@/odd"})", 3),
              HasSubstr("no task of RULER, whose names begin with niah, vt, cwe, fwe or qa"));
  EXPECT_THAT(refusal(R"({"task": "ruler", "items": "@/ruler", "ruler": {"tasks": ["qa_1_46"]}})", 2),
              HasSubstr("did you mean 'qa_1_64'?"));
}

TEST_F(QuestionTasks, LongEvalsTopicsAreAnswered) {
  const auto result = run(R"({"task": "longeval", "items": "@/longeval"})");
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.json()["tasks"]["longeval.2_topics"]["score"]["n"], 1);
  const Json said = read_json(folder_ / "said/2_topics.jsonl");
  EXPECT_EQ(said["_id"], "7");
  EXPECT_EQ(said["answers"], Json({"ab"})) << "the first topic";
}

TEST_F(QuestionTasks, TheFilesAtHandAreRead) {
  MLA_NEEDS_SHARED("data/longbench/ruler");
  MLA_NEEDS_SHARED("data/longbench/longeval");
  // What the tiny model can hold is nothing of them: they are read, encoded, and all found too long.
  const std::string shared = (test::shared_folder() / "data/longbench").string();
  EXPECT_THAT(
      refusal(R"({"task": "ruler", "max_items": 2, "ruler": {"max_tokens": 200}, "items": ")" + shared + R"(/ruler"})",
              3),
      HasSubstr("every prompt, with its answer, is longer than 200 tokens"));
  EXPECT_THAT(refusal(R"({"task": "longeval", "max_items": 1, "longeval": {"max_tokens": 200}, "items": ")" + shared +
                          R"(/longeval"})",
                      3),
              HasSubstr("every prompt, with its answer, is longer than 200 tokens"));
}

TEST_F(QuestionTasks, AChatIsRefusedWhereNoneCanBeHad) {
  const std::string entry = R"({"task": "longeval", "items": "@/longeval", )";
  EXPECT_THAT(refusal(entry + R"("chat": true})", 3), HasSubstr("holds no chat template"));
  folder_.write("model/chat_template.jinja", "{{ '<start_of_turn>' }}");
  EXPECT_THAT(refusal(entry + R"("chat": true})", 3), HasSubstr("is of no known family: ChatML"));
  write_chatml();
  EXPECT_THAT(refusal(entry + R"("system": "Be brief."})", 2), HasSubstr("evaluate[0].system: a message of a chat"));
  EXPECT_THAT(
      refusal(R"({"task": "mean", "of": ["x"], "chat": true})", 2),
      HasSubstr("evaluate[0].chat: mean asks no question; tasks that can be asked as a chat: generation, longbench, "
                "longeval, multiple_choice, ruler"));
}

class ChatTasks : public QuestionTasks {
 protected:
  void SetUp() override {
    QuestionTasks::SetUp();
    write_chatml();
    folder_.write("rows.jsonl", R"({"context": "a b", "choices": [" ab", " b"], "answer": 0}
{"context": "b", "choices": [" b", " a"], "answer": 1})");
    model_.path = (folder_ / "model").string();
  }
  EvaluationConfig config(const std::string& text) const {
    EvaluationConfig config;
    read_fields(read_json(folder_.write_config("value.json", text)), "evaluate", config);
    return config;
  }
  const std::vector<ContinuationGroup>& groups(const EvaluationConfig& asked) {
    surroundings_ = session_.surroundings(model_);
    return *asked.make_task()->continuations(asked, *surroundings_);
  }
  std::vector<CellPlan> none_;
  Session session_{none_};
  ModelConfig model_;
  std::unique_ptr<TaskSurroundings> surroundings_;
};

TEST_F(ChatTasks, AContextIsTheUsersTurnAndAChoiceBeginsTheAnswer) {
  const auto asked =
      config(R"({"task": "multiple_choice", "items": "@/rows.jsonl", "chat": true, "system": "Be brief."})");
  asked.validate("evaluate[0]");
  const auto& all = groups(asked);
  const Tokenizer& tokenizer = session_.tokenizer(model_);
  const std::string before =
      "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\na b<|im_end|>\n<|im_start|>assistant";
  const auto context = tokenizer.encode(before, {.parse_special = true});
  ASSERT_EQ(all.size(), 2u);
  const Continuation& first = all[0][0];
  EXPECT_EQ(first.context, std::ssize(context)) << "white space at its end counts to the choices, as in every context";
  EXPECT_EQ(first.tokens, tokenizer.encode(before + "\nab", {.parse_special = true})) << "without the joining space";
}

TEST_F(ChatTasks, AreOtherCellsThanPlainOnes) {
  const auto plain = config(R"({"task": "multiple_choice", "items": "@/rows.jsonl"})"),
             chat = config(R"({"task": "multiple_choice", "items": "@/rows.jsonl", "chat": true})");
  EXPECT_EQ(identity_of_fields(chat)["chat"], true);
  EXPECT_FALSE(identity_of_fields(plain).contains("chat"));
  ExperimentConfig experiment;
  experiment.model = model_;
  experiment.evaluate = {plain};
  EXPECT_FALSE(session_.data_hashes(experiment).contains("chat_template"));
  experiment.evaluate = {chat};
  const Json before = session_.data_hashes(experiment)["chat_template"];
  folder_.write("model/chat_template.jinja", "<|im_start|>{{ roles }}<|im_end|>");
  EXPECT_NE(session_.data_hashes(experiment)["chat_template"], before) << "a template may lie in a file of its own";
}

TEST_F(ChatTasks, QuestionsAreAskedAndTheirTemplateTakesRoom) {
  const std::string entry = R"({"task": "longeval", "items": "@/longeval", )";
  EXPECT_THAT(refusal(entry + R"("chat": true})", 3),
              HasSubstr("every prompt, with its answer, is longer than 64 tokens"))
      << "50 tokens of an answer and those of the template";
  folder_.write("long/qasper.jsonl", R"({"context": "ab cab b", "input": "ab", "answers": ["ab"], "_id": "q"})");
  const auto long_entry = [](const std::string& more) {
    return R"({"task": "longbench", "items": "@/long", "longbench": {"max_tokens": 190})" + more + "}";
  };
  const auto cost = [&](const std::string& more) {
    const auto asked = config(long_entry(more));
    surroundings_ = session_.surroundings(model_);
    return asked.make_task()->cost({session_.source(model_).decoder, asked, *surroundings_, "source", {}, {}}).tokens;
  };
  EXPECT_LE(cost(R"(, "chat": true)"), 190 + 2) << "the middle is lost before the template is put around";
  EXPECT_GT(cost(R"(, "chat": true)"), 128);
}

TEST_F(ChatTasks, SpreadItemsAndStages) {
  std::string rows;
  for (int i = 0; i < 10; ++i)
    rows += R"({"context": ")" + std::string(static_cast<std::size_t>(i + 1), 'b') +
            R"(", "choices": [" ab", " b"], "answer": 0})" + "\n";
  folder_.write("rows.jsonl", rows);
  const auto lengths = [&](const std::string& more) {
    std::vector<std::int64_t> all;
    for (const auto& group : groups(config(R"({"task": "multiple_choice", "items": "@/rows.jsonl")" + more + "}")))
      all.push_back(group[0].context);
    return all;
  };
  const auto all = lengths("");
  ASSERT_EQ(all.size(), 10u);
  EXPECT_EQ(lengths(R"(, "max_items": 3)"), std::vector(all.begin(), all.begin() + 3));
  EXPECT_EQ(lengths(R"(, "max_items": 4, "spread": true)"), (std::vector{all[0], all[2], all[5], all[7]}));
  EXPECT_EQ(lengths(R"(, "max_items": 40, "spread": true)"), all);
  EXPECT_EQ(lengths(R"(, "spread": true)"), all);

  const auto staged = config(
      R"({"task": "multiple_choice", "items": "@/rows.jsonl", "stages": ["source", "converted_2", "fine_tuned"]})");
  staged.validate("evaluate[0]");
  EXPECT_TRUE(staged.is_asked_at("source") && staged.is_asked_at("converted_2"));
  EXPECT_FALSE(staged.is_asked_at("converted"));
  EXPECT_TRUE(config(R"({"task": "perplexity"})").is_asked_at("converted")) << "by default at all";
  const Decoder& decoder = session_.source(model_).decoder;
  EXPECT_FALSE(session_.evaluate(decoder, "fine_tuned", model_, {staged}).empty());
  EXPECT_TRUE(session_.evaluate(decoder, "converted", model_, {staged}).empty());
  auto wrong = config(R"({"task": "multiple_choice", "items": "@/rows.jsonl", "stages": ["fine_tunde"]})");
  EXPECT_THAT(
      test::message_of<ConfigError>([&] { wrong.validate("evaluate[0]"); }),
      AllOf(HasSubstr("evaluate[0].stages[0]: no 'fine_tunde'; did you mean 'fine_tuned'?"), Not(HasSubstr("\n"))));
  wrong.stages = {"source_1"};
  EXPECT_THAT(test::message_of<ConfigError>([&] { wrong.validate("evaluate[0]"); }), HasSubstr("no 'source_1'"));
}

}  // namespace
}  // namespace mla
