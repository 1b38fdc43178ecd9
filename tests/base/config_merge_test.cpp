#include "core/base/config_merge.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/config.h"
#include "core/base/error.h"
#include "tests/support/errors.h"
#include "tests/support/temporary_folder.h"

namespace mla {
namespace {

using test::message_of;
using testing::HasSubstr;

constexpr const char* kBase = R"({"train": {"steps": 5, "trainable": "all"}, "seed": 1, "evaluate": [
  {"task": "perplexity", "name": "stories"}, {"task": "perplexity"}, {"task": "speed"}, {"task": "speed", "name": "slow"}],
  "grid": {"seed": [1, 2], "train.steps": [5]}, "of": ["a", "b", "a"]})";

Json changed(const std::string& over) {
  Json under = parse_json(kBase, "base");
  merge_config(under, parse_json(over, "over"));
  return under;
}

std::string error_of(const std::string& over) {
  return message_of<ConfigError>([&] { changed(over); });
}

std::vector<std::string> labels(const Json& list) {
  std::vector<std::string> all;
  for (const Json& entry : list) all.push_back(entry.value("name", entry["task"].get<std::string>()));
  return all;
}

TEST(ConfigChanges, ListsAreExtended) {
  EXPECT_EQ(labels(changed(R"({"+evaluate": [{"task": "recall"}]})")["evaluate"]),
            (std::vector<std::string>{"stories", "perplexity", "speed", "slow", "recall"}));
  EXPECT_EQ(changed(R"({"grid": {"+seed": [3]}})")["grid"]["seed"], (Json{1, 2, 3}));
}

TEST(ConfigChanges, EntriesGoByNameOrTaskOrValue) {
  EXPECT_EQ(labels(changed(R"({"-evaluate": ["perplexity", "slow"]})")["evaluate"]),
            (std::vector<std::string>{"stories", "speed"}));
  EXPECT_EQ(changed(R"({"-of": ["b"]})")["of"], (Json{"a", "a"}));
  EXPECT_EQ(changed(R"({"grid": {"-seed": [1]}})")["grid"]["seed"], Json::array({2}));
  EXPECT_EQ(
      labels(changed(R"({"-evaluate": ["speed"], "+evaluate": [{"task": "speed", "name": "fast"}]})")["evaluate"]),
      (std::vector<std::string>{"stories", "perplexity", "slow", "fast"}));
}

TEST(ConfigChanges, KeysGo) {
  const Json without = changed(R"({"-train": true, "-grid": ["train.steps"]})");
  EXPECT_FALSE(without.contains("train"));
  EXPECT_EQ(without["grid"], (Json{{"seed", {1, 2}}}));
  EXPECT_EQ(changed(R"({"train": {"-trainable": true, "steps": 6}})")["train"], (Json{{"steps", 6}}));
}

TEST(ConfigChanges, WhatIsNotThereCanNeitherBeExtendedNorRemoved) {
  EXPECT_EQ(error_of(R"({"+stages": [1]})"),
            "+stages: no base has a list 'stages' to extend; write \"stages\": […] where there is none");
  EXPECT_THAT(error_of(R"({"+train": [1]})"), HasSubstr("+train: no base has a list 'train'"));
  EXPECT_THAT(error_of(R"({"train": {"+steps": 1}})"), HasSubstr("train.+steps: expected a list of entries to add"));
  EXPECT_THAT(error_of(R"({"-trian": true})"),
              HasSubstr("-trian: there is no 'trian' to remove; did you mean 'train'?"));
  EXPECT_THAT(error_of(R"({"-evaluate": ["story"]})"),
              HasSubstr("-evaluate: the list has no entry \"story\"; it has: stories, perplexity, speed, slow"));
  EXPECT_THAT(error_of(R"({"-grid": ["sed"]})"), HasSubstr("-grid: there is no 'sed' to remove; did you mean 'seed'?"));
  EXPECT_THAT(error_of(R"({"-seed": [1]})"), HasSubstr("-seed: 'seed' is an integer, which has no entries"));
  EXPECT_THAT(error_of(R"({"-seed": 1})"),
              HasSubstr("-seed: expected true, or a list of what goes, found an integer 1"));
}

TEST(ConfigChanges, AmbiguitiesAreRefused) {
  EXPECT_THAT(error_of(R"({"-of": ["a"]})"), HasSubstr("-of: \"a\" stands for 2 entries of the list"));
  EXPECT_THAT(error_of(R"({"+of": ["c"], "of": []})"), HasSubstr("+of: 'of' stands in the same object, too"));
  EXPECT_THAT(error_of(R"({"-train": true, "train": {}})"),
              HasSubstr("-train: 'train' stands in the same object, too"));
}

TEST(ConfigChanges, ErrorsNameTheFile) {
  const test::TemporaryFolder folder;
  folder.write("base.json", kBase);
  const auto child = folder.write("child.json", R"({"base": "base.json", "grid": {"-sead": true}})");
  EXPECT_THAT(message_of<ConfigError>([&] { resolve_config(child); }),
              HasSubstr("child.json: grid.-sead: there is no 'sead' to remove; did you mean 'seed'?"));
  // Of two bases the second does not extend what the first has: it would mean something else without it.
  const auto second = folder.write("second.json", R"({"+evaluate": [{"task": "recall"}]})");
  const auto both = folder.write("both.json", R"({"base": ["base.json", "second.json"]})");
  EXPECT_THAT(message_of<ConfigError>([&] { resolve_config(both); }),
              HasSubstr("second.json: +evaluate: no base has a list"));
}

TEST(ConfigChanges, EditorsMayNameASchema) {
  const test::TemporaryFolder folder;
  EXPECT_EQ(resolve_config(folder.write("x.json", R"({"$schema": "experiment.schema.json", "seed": 1})")),
            (Json{{"seed", 1}}));
}

}  // namespace
}  // namespace mla
