#include "core/base/yaml.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/config.h"
#include "core/base/error.h"
#include "tests/support/errors.h"
#include "tests/support/temporary_folder.h"

namespace mla {
namespace {

using test::message_of;
using test::TemporaryFolder;
using testing::HasSubstr;
using testing::StartsWith;

std::string error_of(const std::string& text) {
  return message_of<DataError>([&] { parse_yaml(text, "c.yaml"); });
}

TEST(Yaml, IsTheJsonThatItStandsFor) {
  const Json yaml = parse_yaml(R"(# a comment
model: {path: build/models/a.gguf, weights: packed}
compress:
  - name: mkla   # another
    cached: 72
train:
  learning_rate: 1e-3
  steps: 150
  lora: null
description: >
  folded
  text
seed: 18446744073709551615
offset: -9223372036854775808
)",
                               "c.yaml");
  const Json json = parse_json(R"({"model": {"path": "build/models/a.gguf", "weights": "packed"},
    "compress": [{"name": "mkla", "cached": 72}],
    "train": {"learning_rate": 1e-3, "steps": 150, "lora": null}, "description": "folded text\n",
    "seed": 18446744073709551615, "offset": -9223372036854775808})",
                               "c.json");
  EXPECT_EQ(yaml, json);
  EXPECT_EQ(yaml.dump(), json.dump());  // also the order of keys
}

struct Scalar {
  std::string yaml, json;
};

class YamlScalars : public testing::TestWithParam<Scalar> {};

TEST_P(YamlScalars, AreThoseOfTheCoreSchema) {
  const Json value = parse_yaml("x: " + GetParam().yaml, "c.yaml")["x"], wanted = parse_json(GetParam().json, "");
  EXPECT_EQ(value, wanted);
  EXPECT_EQ(value.type(), wanted.type());
}

INSTANTIATE_TEST_SUITE_P(Words, YamlScalars,
                         testing::Values(Scalar{"no", R"("no")"}, Scalar{"on", R"("on")"}, Scalar{"yes", R"("yes")"},
                                         Scalar{"y", R"("y")"}, Scalar{"true", "true"}, Scalar{"False", "false"},
                                         Scalar{"~", "null"}, Scalar{"", "null"}, Scalar{"Null", "null"},
                                         Scalar{"'true'", R"("true")"}, Scalar{"\"12\"", R"("12")"},
                                         Scalar{"'~'", R"("~")"}, Scalar{"12:30", R"("12:30")"},
                                         Scalar{"2026-11-30", R"("2026-11-30")"}, Scalar{"1.2.3", R"("1.2.3")"},
                                         Scalar{"1_000", R"("1_000")"}, Scalar{"!!str 12", R"("12")"}));
INSTANTIATE_TEST_SUITE_P(Numbers, YamlScalars,
                         testing::Values(Scalar{"12", "12"}, Scalar{"+12", "12"}, Scalar{"-3", "-3"},
                                         Scalar{"012", "12"}, Scalar{"0o17", "15"}, Scalar{"0x1F", "31"},
                                         Scalar{"1.5", "1.5"}, Scalar{".5", "0.5"}, Scalar{"2.", "2.0"},
                                         Scalar{"1e3", "1000.0"}, Scalar{"-1.25E-2", "-0.0125"}, Scalar{"0.1", "0.1"},
                                         Scalar{"!!int 7", "7"}, Scalar{"!!float 7.5", "7.5"}));

TEST(Yaml, AnchorsStandForCopies) {
  EXPECT_EQ(
      parse_yaml("a: &text {files: [t.txt]}\nb: *text\nc: [*text, 1]\n", ""),
      parse_json(R"({"a": {"files": ["t.txt"]}, "b": {"files": ["t.txt"]}, "c": [{"files": ["t.txt"]}, 1]})", ""));
}

TEST(Yaml, KeysAreText) {
  EXPECT_EQ(parse_yaml("compress[0].cached: [1]\n1: a\nno: b\n", ""),
            parse_json(R"({"compress[0].cached": [1], "1": "a", "no": "b"})", ""));
}

TEST(Yaml, AKeyGivenTwiceIsRefusedWithBothLines) {
  EXPECT_EQ(error_of("seed: 1\ntrain:\n  steps: 1\n  batch_rows: 2\n  steps: 3\n"),
            "c.yaml:5:3: the key 'steps' is given twice, first in line 3");
  EXPECT_EQ(error_of("a: {b: 1, b: 2}"), "c.yaml:1:11: the key 'b' is given twice, first in line 1");
}

TEST(Yaml, WhatJsonCouldNotSayIsRefusedWithItsPlace) {
  EXPECT_THAT(error_of("a: .nan"), StartsWith("c.yaml:1:4: .nan is no number"));
  EXPECT_THAT(error_of("a: -.inf"), HasSubstr("-.inf is no number"));
  EXPECT_THAT(error_of("a: 18446744073709551616"), HasSubstr("needs more than 64 bits"));
  EXPECT_THAT(error_of("a: 1e999"), HasSubstr("beyond what a double holds"));
  EXPECT_THAT(error_of("a: !!int x"), HasSubstr("does not fit 'x'"));
  EXPECT_THAT(error_of("a: !own [1]"), HasSubstr("the tag '!own' does not fit"));
  EXPECT_THAT(error_of("a: 1\n---\nb: 2\n"), HasSubstr("several documents"));
  EXPECT_THAT(error_of("base: &b {x: 1}\na:\n  <<: *b\n"), StartsWith("c.yaml:3:3: '<<' is no key of YAML 1.2"));
  EXPECT_THAT(error_of("[1, 2]: 3"), HasSubstr("keys are text"));
  EXPECT_THAT(error_of("a: &a [*a]"), HasSubstr("inside what it stands for"));
  EXPECT_THAT(error_of("a: [1, 2\nb: 3"), StartsWith("c.yaml:2:"));
  EXPECT_THAT(error_of("a:\n\t- 1"), StartsWith("c.yaml:2:"));
  EXPECT_THAT(error_of(std::string("a: \xff\xfe")), HasSubstr("not UTF-8"));
  EXPECT_THAT(error_of(std::string("a\0b", 3)), HasSubstr("a zero byte"));
}

TEST(Yaml, AFewLinesCannotStandForBillions) {
  std::string text = "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n";
  for (int i = 1; i < 10; ++i) {
    std::string ten;
    for (int k = 0; k < 10; ++k) ten += cat(k == 0 ? "" : ", ", "*a", i - 1);
    text += cat("a", i, ": &a", i, " [", ten, "]\n");
  }
  EXPECT_THAT(error_of(text), HasSubstr("more than 1000000 values"));
  EXPECT_THAT(error_of(std::string(200, '[') + std::string(200, ']')), HasSubstr("nested too deep"));
  EXPECT_THAT(error_of(std::string(100000, '[')), StartsWith("c.yaml:1:"));
}

TEST(Yaml, ConfigsOfBothFormatsAreBasesOfEachOther) {
  const TemporaryFolder folder;
  folder.write("model.yml", "model: {path: m}\nseed: 1  # of all\n");
  folder.write("text.json", R"({"base": "model.yml", "evaluate": [{"task": "perplexity"}]})");
  const auto path = folder.write("x.yaml", "base: text.json\n+evaluate:\n- task: speed\nseed: 2\n");
  EXPECT_EQ(resolve_config(path), parse_json(R"({"model": {"path": "m"}, "seed": 2,
    "evaluate": [{"task": "perplexity"}, {"task": "speed"}]})",
                                             ""));
  EXPECT_THAT(message_of<ConfigError>([&] { resolve_config(folder.write("bad.yaml", "a: 1\na: 2\n")); }),
              HasSubstr("bad.yaml:2:1: the key 'a' is given twice, first in line 1"));
  EXPECT_THAT(message_of<ConfigError>([&] { resolve_config(folder.write("empty.yaml", "# nothing\n")); }),
              HasSubstr("empty.yaml: expected an object, found null"));
}

}  // namespace
}  // namespace mla
