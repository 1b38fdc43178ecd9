#include "core/base/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "core/base/config_path.h"
#include "core/base/error.h"
#include "tests/support/errors.h"
#include "tests/support/temporary_folder.h"

namespace mla {
namespace {

using test::message_of;
using test::TemporaryFolder;
using ::testing::AllOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::StartsWith;

std::string error_of(const std::filesystem::path& path) {
  return message_of<ConfigError>([&] { resolve_config(path); });
}

TEST(ResolveConfig, WithoutABaseItIsTheFile) {
  const TemporaryFolder folder;
  EXPECT_EQ(resolve_config(folder.write("x.json", "{\"a\": 1 // one\n}")), (Json{{"a", 1}}));
}

TEST(ResolveConfig, BasesAreRelativeToTheFileThatNamesThem) {
  const TemporaryFolder folder;
  folder.write("models/tiny.json", R"({"base": "common/all.json", "model": {"layers": 2}})");
  folder.write("models/common/all.json", R"({"model": {"layers": 1, "bias": false}, "seed": 0})");
  const auto path = folder.write("experiments/x.json", R"({"base": "../models/tiny.json", "seed": 5})");
  EXPECT_EQ(resolve_config(path), parse_json(R"({"model": {"layers": 2, "bias": false}, "seed": 5})", ""));
}

TEST(ResolveConfig, LaterBasesWinAndTheFileItselfWinsOverAll) {
  const TemporaryFolder folder;
  folder.write("one.json", R"({"a": 1, "b": 1, "c": 1, "list": [1, 2, 3]})");
  folder.write("two.json", R"({"a": 2, "b": 2, "list": [4]})");
  const auto path = folder.write("x.json", R"({"a": 3, "base": ["one.json", "two.json"]})");
  EXPECT_EQ(resolve_config(path), parse_json(R"({"a": 3, "b": 2, "c": 1, "list": [4]})", ""));
}

TEST(ResolveConfig, OneFileMayBeABaseTwice) {
  const TemporaryFolder folder;
  folder.write("root.json", R"({"a": 1})");
  folder.write("left.json", R"({"base": "root.json"})");
  folder.write("right.json", R"({"base": "root.json", "b": 2})");
  const auto path = folder.write("x.json", R"({"base": ["left.json", "right.json"]})");
  EXPECT_EQ(resolve_config(path), parse_json(R"({"a": 1, "b": 2})", ""));
}

TEST(ResolveConfig, MissingFilesNameWhoWantsThem) {
  const TemporaryFolder folder;
  const auto path = folder.write("x.json", R"({"base": "no.json"})");
  EXPECT_EQ(error_of(path), path.string() + ": base: no file '" + (folder / "no.json").string() + "'");
  EXPECT_THAT(error_of(folder / "y.json"), HasSubstr("y.json: cannot be read: No such file"));
}

TEST(ResolveConfig, ACircleIsNamed) {
  const TemporaryFolder folder;
  const auto a = folder.write("a.json", R"({"base": "b.json"})");
  const auto b = folder.write("b.json", R"({"base": "../)" + folder.path().filename().string() + R"(/a.json"})");
  EXPECT_THAT(error_of(a), AllOf(StartsWith("base: the configs name each other in a circle: "), HasSubstr("b.json")));
  EXPECT_THAT(error_of(folder.write("c.json", R"({"base": "c.json"})")), HasSubstr("circle"));
}

TEST(ResolveConfig, MalformedFilesAreConfigErrorsWithThePlace) {
  const TemporaryFolder folder;
  folder.write("bad.json", "{\n\"a\": oops}");
  const auto path = folder.write("x.json", R"({"base": "bad.json"})");
  EXPECT_THAT(error_of(path), StartsWith((folder / "bad.json").string() + ":2:6: malformed JSON: "));
  EXPECT_THAT(error_of(folder.write("list.json", "[1]")), EndsWith("list.json: expected an object, found an array"));
  EXPECT_THAT(error_of(folder.write("number.json", R"({"base": [1]})")),
              EndsWith("number.json: base: expected a file name or a list of them, found [1]"));
}

TEST(MergeConfig, ObjectsMergeAndEverythingElseReplaces) {
  Json under = parse_json(R"({"a": {"x": 1, "y": {"p": 1}}, "b": [1, 2], "c": {"d": 1}, "e": 1})", "");
  merge_config(under, parse_json(R"({"a": {"y": {"q": 2}}, "b": [3], "c": null, "e": {"f": 2}, "g": 1})", ""));
  EXPECT_EQ(under,
            parse_json(R"({"a": {"x": 1, "y": {"p": 1, "q": 2}}, "b": [3], "c": null, "e": {"f": 2}, "g": 1})", ""));
}

TEST(ApplySet, SetsAndMakesMembers) {
  Json config = parse_json(R"({"a": {"b": [{"c": 1}]}, "n": null})", "");
  apply_set(config, "a.b[0].c=2");
  apply_set(config, "a.b[1].c=high");
  apply_set(config, "x.y.z=[1, 2.5]");
  apply_set(config, "n.m=true");
  apply_set(config, "s=k=v");
  apply_set(config, "empty=");
  apply_set(config, "text=\"8\"");
  EXPECT_EQ(config, parse_json(R"({"a": {"b": [{"c": 2}, {"c": "high"}]}, "n": {"m": true}, "x": {"y": {"z": [1, 2.5]}},
                                   "s": "k=v", "empty": "", "text": "8"})",
                               ""));
}

TEST(ApplySet, BadPathsAreConfigErrors) {
  const auto error = [](const std::string& assignment) {
    Json config = parse_json(R"({"a": {"b": [{"c": 1}], "s": "x"}})", "");
    return message_of<ConfigError>([&] { apply_set(config, assignment); });
  };
  EXPECT_EQ(error("a.s.t=1"), "a.s: a string, has no member 't'");
  EXPECT_EQ(error("a.b.c=1"), "a.b: an array, has no member 'c'");
  EXPECT_EQ(error("a[0]=1"), "a: an object, has no entry [0]");
  EXPECT_EQ(error("a.b[2].c=1"), "a.b[2]: the list has 1 entries");
  EXPECT_EQ(error("a.b"), "--set a.b: expected path=value");
  EXPECT_EQ(error("=1"), "--set =1: expected path=value");
  EXPECT_EQ(error("a..b=1"), "'a..b': a part of the path is empty");
  EXPECT_EQ(error("a.=1"), "'a.': a part of the path is empty");
  EXPECT_EQ(error("a.b[x]=1"), "'a.b[x]': expected an index such as [0], found '[x]'");
  EXPECT_EQ(error("a.b[0=1"), "'a.b[0': expected an index such as [0], found '[0'");
  EXPECT_EQ(error("a.b[0]c=1"), "'a.b[0]c': expected an index such as [0], found 'c'");
  EXPECT_EQ(error("a.b[]=1"), "'a.b[]': expected an index such as [0], found '[]'");
}

TEST(ConfigPath, Splits) {
  EXPECT_EQ(split_path("a.b[0][12].c"), (std::vector<std::string>{"a", "b", "[0]", "[12]", "c"}));
}

TEST(ConfigPath, ValuesAreSeparatedByOuterCommas) {
  EXPECT_EQ(parse_values("1,2.5,high,true"), (std::vector<Json>{1, 2.5, "high", true}));
  EXPECT_EQ(parse_values(R"([1,2],{"a":[1,2]},"x,y\",z")"),
            (std::vector<Json>{Json::array({1, 2}), Json{{"a", {1, 2}}}, "x,y\",z"}));
  EXPECT_EQ(parse_values("one"), (std::vector<Json>{"one"}));
  EXPECT_EQ(parse_values("a,"), (std::vector<Json>{"a", ""}));
}

class Environment : public ::testing::Test {
 protected:
  void SetUp() override {
    ::setenv("MLA_TEST_SET", "/data", 1);
    ::setenv("MLA_TEST_EMPTY", "", 1);
    ::unsetenv("MLA_TEST_UNSET");
  }
  void TearDown() override {
    ::unsetenv("MLA_TEST_SET");
    ::unsetenv("MLA_TEST_EMPTY");
  }
  static Json expand(Json config) {
    expand_environment(config);
    return config;
  }
};

TEST_F(Environment, IsExpandedInEveryString) {
  EXPECT_EQ(expand({{"a", "${MLA_TEST_SET}/x"}, {"b", {"$1 {}", {{"c", "${MLA_TEST_SET}${MLA_TEST_SET}"}}}}}),
            (Json{{"a", "/data/x"}, {"b", {"$1 {}", {{"c", "/data/data"}}}}}));
}

TEST_F(Environment, UnsetAndEmptyVariablesTakeTheDefault) {
  EXPECT_EQ(expand("${MLA_TEST_UNSET:-../shared}/x"), "../shared/x");
  EXPECT_EQ(expand("${MLA_TEST_EMPTY:-y}"), "y");
  EXPECT_EQ(expand("<${MLA_TEST_UNSET:-}>"), "<>");
}

TEST_F(Environment, WhatIsPutInIsNotExpandedAgain) {
  ::setenv("MLA_TEST_SET", "${MLA_TEST_SET}", 1);
  EXPECT_EQ(expand("${MLA_TEST_SET}"), "${MLA_TEST_SET}");
}

TEST_F(Environment, ErrorsNamePathAndVariable) {
  const auto error = [](const Json& config) { return message_of<ConfigError>([&] { expand(config); }); };
  EXPECT_EQ(
      error({{"a", {{"b", {1, "${MLA_TEST_UNSET}/x"}}}}}),
      "a.b[1]: the environment variable 'MLA_TEST_UNSET' is not set; set it, or write ${MLA_TEST_UNSET:-default}");
  EXPECT_EQ(error({{"a", "x${MLA"}}), "a: 'x${MLA': '${' without '}'");
}

TEST_F(Environment, IsExpandedInBases) {
  const TemporaryFolder folder;
  ::setenv("MLA_TEST_SET", folder.path().c_str(), 1);
  folder.write("b.json", R"({"a": "${MLA_TEST_UNSET}"})");
  const auto path = folder.write("sub/x.json", R"({"base": "${MLA_TEST_SET}/b.json"})");
  EXPECT_EQ(resolve_config(path)["a"], "${MLA_TEST_UNSET}") << "values stay as written until expand_environment";
  EXPECT_THAT(error_of(folder.write("y.json", R"({"base": "${MLA_TEST_UNSET}"})")),
              AllOf(HasSubstr("y.json: base: "), HasSubstr("'MLA_TEST_UNSET' is not set")));
}

}  // namespace
}  // namespace mla
