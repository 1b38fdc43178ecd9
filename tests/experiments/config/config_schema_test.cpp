// `mlaforge schema` and `mlaforge keys`: what the field lists say about config files.
#include "experiments/config/config_schema.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <functional>

#include "core/base/registry.h"
#include "core/base/yaml.h"
#include "core/compress/pass.h"
#include "core/quantize/codec.h"
#include "experiments/config/experiment_config.h"
#include "experiments/tasks/evaluation_task.h"
#include "tests/support/run_program.h"
#include "tests/support/schema_check.h"

namespace mla {
namespace {

namespace fs = std::filesystem;
using test::run_program;
using test::SchemaCheck;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::StartsWith;

Json schema(const std::string& kind) { return run_program({"schema", kind, "--json"}).json(); }

/// The kind of config that a file is, or "" for one of mlaforge-report.
std::string kind_of_file(const fs::path& file) {
  const std::string folder = file.parent_path().filename().string();
  if (folder == "tables" || file.stem().string().ends_with("_table")) return "";
  if (folder == "bench") return "bench";
  return file.filename().string().starts_with("pretrain_") ? "pretrain" : "experiment";
}

TEST(ConfigSchema, EveryShippedConfigFitsIt) {
  std::map<std::string, std::size_t> checked;
  const std::map<std::string, Json> schemas = {
      {"experiment", schema("experiment")}, {"pretrain", schema("pretrain")}, {"bench", schema("bench")}};
  for (const auto& entry : fs::recursive_directory_iterator(fs::path(MLA_SOURCE_DIR) / "configs")) {
    if (!entry.is_regular_file() || kind_of_file(entry.path()).empty()) continue;
    SCOPED_TRACE(entry.path().string());
    const std::string kind = kind_of_file(entry.path());
    EXPECT_THAT(SchemaCheck(schemas.at(kind)).faults(read_json_or_yaml(entry.path())), IsEmpty());
    ++checked[kind];
  }
  EXPECT_GT(checked["experiment"], 50u);
  EXPECT_GT(checked["pretrain"], 3u);
  EXPECT_GT(checked["bench"], 4u);
}

struct Wrong {
  const char *config, *place;
};

class SchemaRefuses : public testing::TestWithParam<Wrong> {};

TEST_P(SchemaRefuses, WhatTheReaderRefuses) {
  static const Json experiment = experiment_schema();
  EXPECT_THAT(SchemaCheck(experiment).faults(parse_json(GetParam().config, "")),
              Contains(StartsWith(cat("$", GetParam().place, ": "))));
}

INSTANTIATE_TEST_SUITE_P(
    Keys, SchemaRefuses,
    testing::Values(Wrong{R"({"modle": {}})", ".modle"}, Wrong{R"({"model": {"pth": "x"}})", ".model.pth"},
                    Wrong{R"({"train": {"optimizer": {"beta3": 1}}})", ".train"},
                    Wrong{R"({"evaluate": [{"task": "perplexity", "contxt": 1}]})", ".evaluate[0].contxt"},
                    Wrong{R"({"evaluate": [{"task": "recall", "recall": {"deepness": 1}}]})",
                          ".evaluate[0].recall.deepness"},
                    Wrong{R"({"compress": [{"name": "mkla", "cach": 1}]})", ".compress[0].cach"},
                    Wrong{R"({"compress": [{"name": "mha2mla", "rope": {"name": "high", "piars": 1}}]})",
                          ".compress[0].rope.piars"},
                    Wrong{R"({"+evalute": []})", ".+evalute"}, Wrong{R"({"-modle": true})", ".-modle"},
                    Wrong{R"({"+seed": [1]})", ".+seed"}));
INSTANTIATE_TEST_SUITE_P(
    Values, SchemaRefuses,
    testing::Values(
        Wrong{R"({"seed": "1"})", ".seed"}, Wrong{R"({"seed": -1})", ".seed"},
        Wrong{R"({"model": {"weights": "pakced"}})", ".model.weights"}, Wrong{R"({"device": "gpu9"})", ".device"},
        Wrong{R"({"baseline": 1})", ".baseline"},
        Wrong{R"({"evaluate": [{"task": "perplxity"}]})", ".evaluate[0].task"},
        Wrong{R"({"compress": [{"name": "mkl"}]})", ".compress[0].name"},
        Wrong{R"({"compress": [{"cached": 1}]})", ".compress[0]"},
        Wrong{R"({"compress": [{"name": "mha2mla", "low_rank": {"name": "joint_svd", "d_kv": "4"}}]})",
              ".compress[0].low_rank.d_kv"},
        Wrong{R"({"grid": {"seed": 1}})", ".grid.seed"}, Wrong{R"({"products": "float64"})", ".products"},
        Wrong{R"({"arithmetic": "half"})", ".arithmetic"}, Wrong{R"({"train": {"packing": "pakced"}})", ".train"},
        Wrong{R"({"calibration": {"long_documents": "splt"}})", ".calibration"},
        Wrong{R"({"evaluate": [{"task": "recall", "recall": {"kind": "neddle"}}]})", ".evaluate[0].recall.kind"},
        Wrong{R"({"compress": [{"name": "mha2mla", "rope": {"name": "two_norm", "score": "prod"}}]})",
              ".compress[0].rope.score"},
        Wrong{R"({"compress": [{"name": "mha2mla", "low_rank": {"name": "joint_svd", "metric": "output"}}]})",
              ".compress[0].low_rank.metric"},
        Wrong{R"({"compress": [{"name": "mha2mla", "low_rank": {"name": "joint_svd", "balance": "norm"}}]})",
              ".compress[0].low_rank.balance"},
        Wrong{R"({"compress": [{"name": "mha2mla", "low_rank": {"name": "split_svd", "split_budget": "all"}}]})",
              ".compress[0].low_rank.split_budget"},
        Wrong{R"({"compress": [{"name": "low_rank", "low_rank": {"name": "value_svd", "placement": "left"}}]})",
              ".compress[0].low_rank.placement"},
        Wrong{R"({"compress": [{"name": "low_rank", "low_rank": {"name": "joint_svd", "svd": {"method": "qr"}}}]})",
              ".compress[0].low_rank.svd.method"},
        Wrong{R"({"cache": {"codec": {"name": "kvquant", "variant": "nuq9"}}})", ".cache"},
        Wrong{R"({"cache": {"codec": {"name": "hqqq"}}})", ".cache"}));

TEST(ConfigSchema, NamesEveryStrategyAndTakesItsDefaults) {
  const Json experiment = experiment_schema();
  EXPECT_EQ(experiment["$schema"], "https://json-schema.org/draft/2020-12/schema");
  const auto names = [&](const char* kind) {
    return experiment["$defs"][kind]["properties"]["name"]["enum"].get<std::vector<std::string>>();
  };
  EXPECT_EQ(names("pass"), Registry<Pass>::instance().names());
  EXPECT_EQ(names("codec"), Registry<Codec>::instance().names());
  for (const std::string& name : Registry<Pass>::instance().names()) {
    SCOPED_TRACE(name);
    Json pass = {{"name", name}};
    pass.update(Registry<Pass>::instance().find(name, "").defaults);
    EXPECT_THAT(SchemaCheck(experiment).faults({{"compress", {pass}}}), IsEmpty());
  }
  for (const std::string& name : Registry<EvaluationTask>::instance().names()) {
    EXPECT_THAT(SchemaCheck(experiment).faults({{"evaluate", {{{"task", name}}}}}), IsEmpty()) << name;
  }
}

TEST(ConfigSchema, ACopyOfAllDefaultsFits) {
  const Json defaults = write_fields(ExperimentConfig{});
  EXPECT_THAT(SchemaCheck(experiment_schema()).faults(defaults), IsEmpty());
}

TEST(ConfigSchema, ChildrenMayExtendAndRemove) {
  const Json child =
      parse_json(R"({"base": ["a.yaml"], "$schema": "s.json", "+evaluate": [{"task": "speed"}], "-train": true,
    "grid": {"-seed": true}, "cache": {"codec": {"bits": 2}}})",
                 "");
  EXPECT_THAT(SchemaCheck(experiment_schema()).faults(child), IsEmpty());
}

TEST(ConfigSchema, IsPrintedForEditors) {
  const auto result = run_program({"schema"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_EQ(parse_json(result.out, "stdout"), experiment_schema());
  EXPECT_THAT(run_program({"schema", "tables"}).err, HasSubstr("no 'tables'"));
}

std::vector<std::string> listed(const std::vector<std::string>& arguments) {
  std::vector<std::string> words = {"keys", "--json"};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<std::string> keys;
  const Json report = run_program(words).json();
  for (const Json& key : report["keys"]) keys.push_back(key["key"]);
  return keys;
}

TEST(Keys, AreThoseOfFieldListsAndStrategies) {
  const std::vector<std::string> all = listed({});
  for (const char* key :
       {"model.path", "train.learning_rate", "train.optimizer.beta2", "compress[].mkla", "compress[].mkla.cached",
        "compress[].mha2mla.rope.high.pairs", "stages[].compress[].mkla.cached", "stages[].train.steps",
        "train.mixture[].data.files", "evaluate[].recall.kind", "evaluate[].prompt.few_shot", "cache.codec.hqq.bits",
        "calibration.files", "grid", "baseline", "skip_invalid", "base"}) {
    EXPECT_THAT(all, Contains(key));
  }
  EXPECT_GT(all.size(), 300u);
  std::vector<std::string> once = all;
  std::sort(once.begin(), once.end());
  EXPECT_EQ(std::adjacent_find(once.begin(), once.end()), once.end());
}

TEST(Keys, SayTypeDefaultAndDescription) {
  const Json keys = run_program({"keys", "train.document_boundaries", "--json"}).json()["keys"];
  EXPECT_EQ(keys[0]["key"], "train.document_boundaries");
  EXPECT_EQ(keys[0]["type"], "kept | masked");
  EXPECT_EQ(keys[0]["default"], "kept");
  EXPECT_THAT(keys[0]["description"].get<std::string>(), HasSubstr("packed documents"));
  const auto type = [](const std::string& key) {
    return run_program({"keys", key, "--json"}).json()["keys"][0]["type"];
  };
  EXPECT_EQ(type("calibration.files"), "list of string");
  EXPECT_EQ(type("compress[].mkla.cached"), "integer or list of integer");
  EXPECT_EQ(type("compress[].care.cached"), "integer or null");
  EXPECT_EQ(type("compress[].mha2mla.rope"), "rope");
  EXPECT_EQ(type("compress[].mha2mla.low_rank.joint_svd.d_kv"), "integer or list of integer");
}

TEST(Keys, ArePickedByAPartOrAPattern) {
  EXPECT_THAT(listed({"model.*"}), ElementsAre("model.path", "model.tokenizer", "model.weights"));
  EXPECT_THAT(listed({"compress[].mkla.c*"}), Contains("compress[].mkla.cached"));
  EXPECT_THAT(listed({"cached"}), Contains("compress[].care.cached"));
  EXPECT_THAT(listed({"train.learning_rate"}), Not(Contains("train.steps")));
  EXPECT_THAT(listed({"--kind", "bench", "prefill*"}), ElementsAre("prefill_chunk", "prefill"));
  const auto none = run_program({"keys", "train.lerning_rate"});
  EXPECT_EQ(none.exit_code, 2);
  EXPECT_EQ(none.err, "mlaforge keys: no key matches 'train.lerning_rate'; did you mean 'learning_rate'?\n");
}

}  // namespace
}  // namespace mla
