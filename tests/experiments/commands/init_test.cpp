// `mlaforge init`: a config for someone's own model and text.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "core/base/config.h"
#include "core/base/yaml.h"
#include "core/text/corpus.h"
#include "experiments/config/config_schema.h"
#include "experiments/config/starter_config.h"
#include "experiments/plan/plan.h"
#include "tests/support/run_program.h"
#include "tests/support/schema_check.h"
#include "tests/support/tiny_model_folder.h"

namespace mla {
namespace {

namespace fs = std::filesystem;
using test::run_program;
using testing::ElementsAre;
using testing::EndsWith;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;

class Init : public testing::Test {
 protected:
  Init() { test::write_tiny_model(folder_ / "model"); }

  /// 100 different documents, the last of them like an earlier one.
  fs::path text() {
    std::string all;
    for (int i = 0; i < 100; ++i) {
      const int number = i == 99 ? 40 : i;
      all += "ab" + std::string(static_cast<std::size_t>(number % 7 + 1), 'c') + " abc ab " + std::to_string(number) +
             " cab ba abc\n###";
    }
    return folder_.write("text.txt", all);
  }
  test::ProgramResult init(const fs::path& data, std::vector<std::string> more = {"--separator", "###"}) {
    std::vector<std::string> arguments = {"init", model(), "--data", data.string(), "--output", config()};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run_program(arguments);
  }
  std::string model() const { return (folder_ / "model").string(); }
  std::string config() const { return (folder_ / "mine.yaml").string(); }
  std::vector<std::string> part(const char* name) const { return read_documents(folder_ / "mine.data" / name); }

  test::TemporaryFolder folder_;
};

TEST_F(Init, WritesACommentedConfigThatRuns) {
  const auto result = init(text());
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, EndsWith("\nnext: mlaforge run " + config() + "\n"));
  EXPECT_THAT(read_file(config()), HasSubstr("\n# Text on which passes measure what matters."));
  EXPECT_THAT(test::SchemaCheck(experiment_schema()).faults(read_json_or_yaml(config())), IsEmpty());
  const Json plan = run_program({"check", config(), "--json"}).json();
  EXPECT_EQ(plan["cells"].size(), 3u);  // the baseline and two widths
  EXPECT_EQ(plan["cells"][1]["cache_ratio"], 0.5);
  EXPECT_EQ(plan["cells"][2]["cache_ratio"], 0.25);
  const auto run = run_program(
      {"run", config(), "--set", "train.steps=2", "--set", "results=" + (folder_ / "results").string(), "--quiet"});
  EXPECT_EQ(run.exit_code, 0) << run.err;
}

TEST_F(Init, WritesJsonWithComments) {
  ASSERT_EQ(init(text()).exit_code, 0);
  const Json yaml = read_json_or_yaml(config());
  fs::rename(config(), folder_ / "kept.yaml");
  fs::remove_all(folder_ / "mine.data");
  const auto json = folder_ / "mine.json";
  ASSERT_EQ(
      run_program({"init", model(), "--data", text().string(), "--separator", "###", "-o", json.string()}).exit_code,
      0);
  EXPECT_EQ(read_json(json), yaml);
  EXPECT_THAT(read_file(json), StartsWith("// A first experiment, written by `mlaforge init`"));
  EXPECT_THAT(read_file(json),
              HasSubstr("\n  // Text on which passes measure what matters. Neither trained nor evaluated on.\n"
                        "  \"calibration\": {\n"));
}

TEST_F(Init, NoTextIsReadTwice) {
  ASSERT_EQ(init(text()).exit_code, 0);
  const auto calibration = part("calibration.jsonl"), train = part("train.jsonl"),
             evaluation = part("evaluation.jsonl");
  std::set<std::string> seen(calibration.begin(), calibration.end());
  EXPECT_EQ(seen.size(), calibration.size());
  for (const auto& document : train) EXPECT_TRUE(seen.insert(document).second) << document;
  for (const auto& document : evaluation) EXPECT_TRUE(seen.insert(document).second) << document;
  EXPECT_EQ(seen.size(), 99u);  // the document that stands there twice is not evaluated on
  EXPECT_GE(calibration.size(), 9u);
  EXPECT_GE(evaluation.size(), 8u);
  EXPECT_GT(train.size(), 70u);
}

TEST_F(Init, ATextWithoutDocumentsIsCutAtBlankLines) {
  std::string all;
  for (int i = 0; i < 40; ++i) all += std::string(1500, static_cast<char>('a' + i % 3)) + std::to_string(i) + "\n\n";
  ASSERT_EQ(init(folder_.write("plain.txt", all), {}).exit_code, 0);
  std::string joined;
  for (const char* name : {"calibration.jsonl", "train.jsonl", "evaluation.jsonl"}) {
    for (const std::string& piece : part(name)) {
      EXPECT_THAT(piece, EndsWith("\n\n"));
      joined += piece;
    }
  }
  EXPECT_EQ(joined, all);
}

TEST_F(Init, NothingIsOverwritten) {
  ASSERT_EQ(init(text()).exit_code, 0);
  const std::string before = read_file(config());
  const auto again = init(text());
  EXPECT_EQ(again.exit_code, 2);
  EXPECT_EQ(again.err,
            "mlaforge init: " + config() + ": is there already, and stays; remove it, or name another --output\n");
  EXPECT_EQ(read_file(config()), before);
  fs::remove(config());
  EXPECT_THAT(init(text()).err, HasSubstr("mine.data: is there already"));
}

TEST_F(Init, LeavesNothingBehindWhereItCannotGoOn) {
  const auto expect_refused = [&](const test::ProgramResult& result, int code, const std::string& message) {
    EXPECT_EQ(result.exit_code, code);
    EXPECT_THAT(result.err, HasSubstr(message));
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
    EXPECT_FALSE(fs::exists(config()));
    EXPECT_FALSE(fs::exists(folder_ / "mine.data"));
  };
  expect_refused(init(folder_.write("short.txt", "abc")), 3, "1 document of 3 bytes leave no text for three parts");
  expect_refused(init(folder_.write("same.txt", "ab###ab###ab###ab")), 3,
                 "no text for evaluation that is not also trained on");
  expect_refused(init(folder_ / "none.txt"), 3, "none.txt");
  expect_refused(run_program({"init", "/no/model", "--data", text().string(), "-o", config()}), 3, "/no/model");
  expect_refused(init(text(), {"--tokenizer", "/no/tokenizer"}), 3, "/no/tokenizer");
  EXPECT_THAT(run_program({"init", model(), "--data", text().string(), "--output", "x.txt"}).err,
              HasSubstr("--output x.txt: a config's name ends in .yaml, .yml or .json"));
  ASSERT_EQ(run_program({"convert", "--model", model(), "--output", (folder_ / "mla").string(), "--rope", "high",
                         "--pairs", "1", "--d-kv", "2"})
                .exit_code,
            0);
  expect_refused(run_program({"init", (folder_ / "mla").string(), "--data", text().string(), "-o", config()}), 2,
                 "its layers are of kind latent; init begins with a model as published");
}

TEST_F(Init, TellsProgramsWhatItWrote) {
  const Json report = init(text(), {"--separator", "###", "--json"}).json();
  EXPECT_EQ(report["config"], config());
  EXPECT_EQ(report["repeated"], 1);
  EXPECT_EQ(report["cells"], 3);
  EXPECT_EQ(report["data"]["train"]["file"], (folder_ / "mine.data/train.jsonl").string());
}

ModelSpec published(std::int64_t hidden, std::int64_t layers, std::int64_t heads, std::int64_t kv_heads,
                    const std::string& type = "llama") {
  return read_published_config({{"model_type", type},
                                {"architectures", {type == "llama" ? "LlamaForCausalLM" : "Qwen3ForCausalLM"}},
                                {"hidden_size", hidden},
                                {"intermediate_size", 3 * hidden},
                                {"num_hidden_layers", layers},
                                {"num_attention_heads", heads},
                                {"num_key_value_heads", kv_heads},
                                {"head_dim", hidden / heads},
                                {"vocab_size", 32000},
                                {"max_position_embeddings", 2048},
                                {"rms_norm_eps", 1e-5},
                                {"hidden_act", "silu"},
                                {"tie_word_embeddings", false}},
                               "config");
}

TEST(StarterSizes, FollowFromTheModel) {
  const StarterSizes small = starter_sizes(published(576, 30, 9, 3), "m");
  EXPECT_EQ(small.pairs, 4);
  EXPECT_THAT(small.d_kv, ElementsAre(56, 24, 8));
  EXPECT_THAT(small.cache_left, ElementsAre(0.5, 0.25, 0.125));
  EXPECT_EQ(small.length, 256);
  EXPECT_GT(small.steps, 10);
  EXPECT_LT(small.steps, 100);
  const StarterSizes large = starter_sizes(published(4096, 32, 32, 32), "m");
  EXPECT_EQ(large.pairs, 8);
  EXPECT_EQ(large.steps, 0);  // hours a step
  const StarterSizes normed = starter_sizes(published(1024, 28, 16, 8, "qwen3"), "m");
  EXPECT_TRUE(normed.values_alone);
  EXPECT_THAT(normed.d_kv, ElementsAre(32, 16, 8));
}

TEST(StarterConfig, IsValidYamlForEachOfThem) {
  for (const ModelSpec& spec :
       {published(576, 30, 9, 3), published(4096, 32, 32, 32), published(1024, 28, 16, 8, "qwen3")}) {
    const std::string text = starter_config(spec, {"a model", "tok", "c.jsonl", "t.jsonl", "e.jsonl"});
    const Json config = parse_yaml(text, "starter");
    EXPECT_THAT(test::SchemaCheck(experiment_schema()).faults(config), IsEmpty());
    EXPECT_EQ(config["model"], (Json{{"path", "a model"}, {"tokenizer", "tok"}}));
    EXPECT_EQ(config.contains("train"), spec.hidden < 4096);
    EXPECT_EQ(config.contains("baseline"), spec.hidden < 4096);
  }
}

}  // namespace
}  // namespace mla
