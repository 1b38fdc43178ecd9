// What every evaluation must do, over all registered names.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "core/base/progress.h"
#include "experiments/cell/session.h"
#include "experiments/tasks/evaluation_task.h"
#include "tests/support/errors.h"
#include "tests/support/run_program.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_model_folder.h"

namespace mla {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;
using EvaluationTasks = Registry<EvaluationTask>;

/// A small evaluation of each task, with what must stand before it, and a config that it cannot use.
struct TaskExample {
  std::string evaluate, refused, refused_key;
};

const std::map<std::string, TaskExample>& examples() {
  static const std::map<std::string, TaskExample> all = {
      {"distance",
       {R"([{"task": "distance", "data": {"files": ["@/text.txt"]}, "context": 12, "buckets": []}])",
        R"({"task": "distance", "data": {"files": []}})", "data.files"}},
      {"generation",
       {R"([{"task": "generation", "items": "@/rows.jsonl", "prompt": {"few_shot": 1},
             "generation": {"answers": "choices", "new_tokens": 4, "stop": ["b"]}}])",
        R"({"task": "generation", "items": "@/rows.jsonl", "generation": {"new_tokens": 0}})",
        "generation.new_tokens = 0"}},
      {"longbench",
       {R"([{"task": "longbench", "items": "@/long", "longbench": {"max_tokens": 48}}])",
        R"({"task": "longbench", "items": "@/long", "longbench": {"max_tokens": 1}})", "longbench.max_tokens = 1"}},
      {"longeval",
       {R"([{"task": "longeval", "items": "@/needles/2_topics.jsonl"}])",
        R"({"task": "longeval", "items": "@/needles", "longeval": {"max_tokens": -1}})", "longeval.max_tokens = -1"}},
      {"mean",
       {R"([{"task": "multiple_choice", "name": "rows", "items": "@/rows.jsonl"}, {"task": "mean", "of": ["rows"]}])",
        R"({"task": "mean"})", "of: "}},
      {"multiple_choice",
       {R"([{"task": "multiple_choice", "items": "@/rows.jsonl", "prompt": {"few_shot": 1}}])",
        R"({"task": "multiple_choice", "items": "@/rows.jsonl", "form": "rows"})", "form: no 'rows'"}},
      {"perplexity",
       {R"([{"task": "perplexity", "data": {"files": ["@/text.txt"]}, "context": 12, "buckets": []}])",
        R"({"task": "perplexity"})", "data.files"}},
      {"recall",
       {R"([{"task": "recall", "recall": {"lengths": [200], "items": 2}}])",
        R"({"task": "recall", "recall": {"choices": 1}})", "recall.choices = 1"}},
      {"ruler",
       {R"([{"task": "ruler", "items": "@/needles/vt_64.jsonl"}])", R"({"task": "ruler"})", "items: name a file"}},
      {"speed",
       {R"([{"task": "speed", "speed": {"context": 16, "new_tokens": 4, "repeats": 2}}])",
        R"({"task": "speed", "speed": {"new_tokens": 1}})", "speed.new_tokens = 1"}}};
  return all;
}

class EveryTask : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    progress_style().quiet = true;
    ASSERT_TRUE(examples().contains(GetParam())) << "give a small evaluation of it";
    test::write_tiny_inputs(folder_);
    model_.path = (folder_ / "model").string();
    std::string rows, questions, needles, topics;
    for (int i = 0; i < 6; ++i) {
      const std::string text = "ab cab " + std::string(static_cast<std::size_t>(1 + i), 'b');
      rows += cat(R"({"query": ")", text, R"(", "choices": ["ab", "cab", "b"], "gold": )", i % 3, "}\n");
      questions += cat(R"({"_id": "q)", i, R"(", "context": ")", text,
                       R"(", "input": "ab", "answers": ["ab"], "all_classes": null, "dataset": "triviaqa"})", "\n");
      needles += cat(R"({"index": )", i, R"(, "input": ")", text, R"(", "outputs": ["ab", "b"]})", "\n");
      topics += cat(R"({"prompt": ")", text, R"(", "topics": ["ab", "cab"]})", "\n");
    }
    folder_.write("rows.jsonl", rows);
    folder_.write("long/triviaqa.jsonl", questions);
    folder_.write("needles/vt_64.jsonl", needles);
    folder_.write("needles/2_topics.jsonl", topics);
    task_ = EvaluationTasks::instance().find(GetParam(), "task").make(Json::object(), "task");
  }

  void TearDown() override { progress_style().quiet = false; }

  template <class Value>
  Value read(const std::string& text) const {
    Value value;
    read_fields(read_json(folder_.write_config("value.json", text)), "evaluate", value);
    return value;
  }
  std::vector<EvaluationConfig> evaluations() const {
    return read<std::vector<EvaluationConfig>>(examples().at(GetParam()).evaluate);
  }
  /// A model that is not quite its source.
  static Decoder derived_from(const Decoder& source) {
    Decoder decoder = source.clone();
    decoder.embedding = Linear(decoder.embedding.to_dense() * 1.25);
    return decoder;
  }
  std::vector<ScoreRecord> scores() const {
    Session session(none_);
    const auto tasks = evaluations();
    for (std::size_t i = 0; i < tasks.size(); ++i) tasks[i].validate(cat("evaluate[", i, "]"));
    std::vector<ScoreRecord> scores =
        session.evaluate(derived_from(session.source(model_).decoder), "converted", model_, tasks);
    std::erase_if(scores, [&](const ScoreRecord& score) {
      return score.task != tasks.back().label() && !score.task.starts_with(tasks.back().label() + ".");
    });
    return scores;
  }

  test::TemporaryFolder folder_;
  ModelConfig model_;
  std::vector<CellPlan> none_;
  std::unique_ptr<EvaluationTask> task_;
};

TEST_P(EveryTask, DescribesItself) {
  EXPECT_THAT(EvaluationTasks::instance().find(GetParam(), "task").description, AllOf(Not(""), Not(HasSubstr("\n"))));
  std::vector<std::string> fields;
  for (const FieldHelp& field : describe_fields<EvaluationConfig>()) fields.push_back(field.name);
  for (const std::string& key : task_->reads()) EXPECT_THAT(fields, testing::Contains(key));
  const Json listed = test::run_program({"list", "task", "--json"}).json()["task"];
  EXPECT_TRUE(std::any_of(listed.begin(), listed.end(), [&](const Json& one) {
    return one["name"] == GetParam() && !one["options"].empty();
  })) << listed;
}

TEST_P(EveryTask, GivesScoresWithSamplesAndTheSameOnesAgain) {
  const std::vector<ScoreRecord> first = scores();
  ASSERT_FALSE(first.empty());
  bool has_samples = false;
  for (const ScoreRecord& score : first) {
    SCOPED_TRACE(score.metric);
    EXPECT_EQ(score.stage, "converted");
    EXPECT_TRUE(std::isfinite(score.value));
    EXPECT_GT(score.n, 0);
    EXPECT_TRUE(score.per_sample.empty() || std::ssize(score.per_sample) == score.n);
    has_samples = has_samples || (!score.per_sample.empty() && score.standard_error.has_value());
  }
  EXPECT_EQ(has_samples, task_->asks() != Asks::kNothing) << "what asks nothing has its samples where they come from";
  std::vector<ScoreRecord> again = scores();
  ASSERT_EQ(again.size(), first.size());
  for (std::size_t i = 0; i < first.size() && task_->is_of_time(); ++i) {
    EXPECT_GT(first[i].value, 0);
    again[i].value = first[i].value;
    again[i].standard_error = first[i].standard_error;
    again[i].per_sample = first[i].per_sample;
  }
  EXPECT_EQ(again, first);
}

TEST_P(EveryTask, CountsWhatItComputes) {
  Session session(none_);
  const EvaluationConfig config = evaluations().back();
  const auto shared = session.surroundings(model_);
  const TaskCost cost = config.make_task()->cost({shared->source(), config, *shared, "source", {}, {}});
  EXPECT_EQ(cost.tokens > 0, task_->asks() != Asks::kNothing);
  EXPECT_EQ(cost.batches_done, 0);
}

TEST_P(EveryTask, NamesTheFilesItReads) {
  const EvaluationConfig config = evaluations().back();
  const std::vector<std::string> files = config.files();
  for (const std::string& file : files) EXPECT_TRUE(std::filesystem::is_regular_file(file)) << file;
  const auto reads = task_->reads();
  const bool of_files =
      std::any_of(reads.begin(), reads.end(), [](const std::string& key) { return key == "data" || key == "items"; });
  EXPECT_EQ(files.empty(), !of_files);
}

TEST_P(EveryTask, RefusesWhatItCannotUse) {
  const TaskExample& example = examples().at(GetParam());
  const auto config = read<EvaluationConfig>(example.refused);
  EXPECT_THAT(test::message_of<ConfigError>([&] { config.validate("evaluate[3]"); }),
              AllOf(StartsWith("evaluate[3]." + example.refused_key), Not(HasSubstr("\n"))));
}

TEST_P(EveryTask, IsDecodedThroughACacheWhereItSaysSo) {
  Session session(none_);
  const EvaluationConfig config = evaluations().back();
  const auto shared = session.surroundings(model_);
  CachedDecodingConfig cache;
  cache.decoding.context = 12;
  cache.decoding.prompt = 4;
  const CachedTaskScores cached = config.make_task()->scores_through_cache(
      {shared->source(), config, *shared, "source", {}, {}}, cache, cache_format(cache.storage, "cache"));
  EXPECT_EQ(!cached.scores.empty(), task_->decodes_through_cache());
  for (const ScoreRecord& score : cached.scores) EXPECT_THAT(score.task, testing::EndsWith(", cached"));
  for (const CachedDecodingRecord& record : cached.decoding) EXPECT_EQ(record.task, config.label());
}

INSTANTIATE_TEST_SUITE_P(Tasks, EveryTask, testing::ValuesIn(EvaluationTasks::instance().names()),
                         [](const auto& test) { return test.param; });

TEST(EvaluationConfigs, OwnOptionsAreReadWrittenAndIdentifiedAsAnyOther) {
  const auto read = [](const char* text) {
    EvaluationConfig config;
    read_fields(parse_json(text, "test"), "evaluate[0]", config);
    return config;
  };
  const EvaluationConfig config =
      read(R"({"task": "recall", "recall": {"depths": [1], "kind": "passkey"}, "longbench": {"max_tokens": 7}})");
  const Json written = write_fields(config);
  EXPECT_EQ(written["recall"]["depths"], Json::array({1.0}));
  EXPECT_EQ(written["recall"]["items"], 20);
  EXPECT_EQ(written["longbench"], Json({{"tasks", Json::array()}, {"max_tokens", 7}}));
  EXPECT_EQ(identity_of_fields(config),
            Json({{"task", "recall"}, {"longbench", {{"max_tokens", 7}}}, {"recall", {{"depths", {1.0}}}}}));
  EXPECT_EQ(identity_of_fields(read(R"({"recall": {"kind": "passkey", "items": 20}, "longbench": {}})")),
            Json::object());
  EXPECT_THAT(test::message_of<ConfigError>([&] { read(R"({"recall": {"dephts": [1]}})"); }),
              StartsWith("evaluate[0].recall.dephts: unknown key; did you mean 'depths'?"));
  EXPECT_THAT(test::message_of<ConfigError>([&] { read(R"({"longbench": {"tasks": ["a", 2]}})"); }),
              StartsWith("evaluate[0].longbench.tasks[1]: expected a string"));
  EXPECT_THAT(test::message_of<ConfigError>([&] { read(R"({"longbench": 3})"); }),
              StartsWith("evaluate[0].longbench: expected an object"));
  EXPECT_THAT(test::message_of<ConfigError>([&] { read(R"({"mean": {}})"); }),
              StartsWith("evaluate[0].mean: unknown key"))
      << "a task without options of its own";
}

TEST(EvaluationConfigs, WhatTheTaskDoesNotReadMustMakeSenseAllTheSame) {
  const auto refused = [](const char* text) {
    EvaluationConfig config;
    read_fields(parse_json(text, "test"), "evaluate[0]", config);
    config.data.files = {"text.txt"};
    return test::message_of<ConfigError>([&] { config.validate("evaluate[0]"); });
  };
  EXPECT_THAT(refused(R"({"prompt": {"name": "ark"}})"), StartsWith("evaluate[0].prompt.name: no 'ark'"));
  EXPECT_THAT(refused(R"({"form": "chioces"})"), StartsWith("evaluate[0].form: no 'chioces'"));
  EXPECT_THAT(refused(R"({"longbench": {"max_tokens": 1}})"), StartsWith("evaluate[0].longbench.max_tokens = 1"));
  EXPECT_THAT(refused(R"({"recall": {"choices": 1}})"), StartsWith("evaluate[0].recall.choices"));
  EXPECT_EQ(refused("{}"), "no error");
}

TEST(EvaluationConfigs, UnknownTasksAreNamed) {
  EvaluationConfig config;
  config.task = "perplexty";
  EXPECT_EQ(
      test::message_of<ConfigError>([&] { config.validate("evaluate[1]"); }),
      "evaluate[1].task: no 'perplexty'; did you mean 'perplexity'? known: distance, generation, longbench, longeval, "
      "mean, multiple_choice, perplexity, recall, ruler, speed");
}

}  // namespace
}  // namespace mla
