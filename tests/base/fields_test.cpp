#include "core/base/fields.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/per_layer.h"
#include "tests/support/errors.h"

namespace mla {
namespace {

using test::message_of;
using ::testing::HasSubstr;

enum class Kind { kFast, kSlow };
std::vector<std::pair<std::string, Kind>> enum_names(Kind) { return {{"fast", Kind::kFast}, {"slow", Kind::kSlow}}; }

struct Inner {
  int pairs = 4;
  std::string name = "high";
  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("pairs", self.pairs, "pairs kept");
    visit("name", self.name, "strategy");
  }
  bool operator==(const Inner&) const = default;
};

struct Outer {
  bool on = true;
  std::int64_t count = -1;
  std::uint64_t seed = 7;
  std::int32_t small = 3;
  std::uint8_t tiny = 1;
  double rate = 0.5;
  std::optional<double> limit;
  std::vector<std::string> words{"a"};
  std::vector<bool> flags;
  std::vector<Inner> parts;
  Inner inner;
  PerLayer widths = 8;
  Kind kind = Kind::kFast;
  Json free = Json::object();
  template <class Self, class Visitor>
  static void fields(Self& self, Visitor& visit) {
    visit("on", self.on, "switch");
    visit("count", self.count, "a count");
    visit("seed", self.seed, "seed");
    visit("small", self.small, "32 bits");
    visit("tiny", self.tiny, "8 bits");
    visit("rate", self.rate, "a rate");
    visit("limit", self.limit, "a limit or none");
    visit("words", self.words, "words");
    visit("flags", self.flags, "flags");
    visit("parts", self.parts, "parts");
    visit("inner", self.inner, "inner");
    visit("widths", self.widths, "per layer");
    visit("kind", self.kind, "kind");
    visit("free", self.free, "anything");
  }
  bool operator==(const Outer&) const = default;
};

Outer read(const std::string& text, const std::string& path = "") {
  Outer options;
  read_fields(parse_json(text, "test"), path, options);
  return options;
}

std::string error(const std::string& text, const std::string& path = "") {
  return message_of<ConfigError>([&] { read(text, path); });
}

TEST(Fields, AnEmptyObjectKeepsEveryDefault) { EXPECT_EQ(read("{}"), Outer{}); }

TEST(Fields, EveryTypeSurvivesWritingAndReading) {
  Outer options;
  options.on = false;
  options.count = std::numeric_limits<std::int64_t>::min();
  options.seed = std::numeric_limits<std::uint64_t>::max();
  options.rate = 0.1;
  options.limit = 2.5;
  options.words = {"x", "y"};
  options.flags = {true, false};
  options.parts = {{1, "low"}, {}};
  options.inner.pairs = 9;
  options.widths = PerLayer(std::vector<std::int64_t>{4, 2});
  options.kind = Kind::kSlow;
  options.free = {{"any", {1, 2}}};
  EXPECT_EQ(read(write_fields(options).dump()), options);
  EXPECT_EQ(read(write_fields(Outer{}).dump()), Outer{});
}

TEST(Fields, NullEmptiesAnOptional) {
  Outer options;
  options.limit = 1;
  read_fields(parse_json(R"({"limit": null})", ""), "", options);
  EXPECT_FALSE(options.limit);
}

TEST(Fields, AListReplacesTheDefault) { EXPECT_EQ(read(R"({"words": ["b"]})").words, std::vector<std::string>{"b"}); }

TEST(Fields, AnIntegerIsANumberButNotTheOtherWayRound) {
  EXPECT_EQ(read(R"({"rate": 2})").rate, 2.0);
  EXPECT_EQ(error(R"({"count": 2.0})"), "count: expected an integer, found a number 2.0");
}

TEST(Fields, UnknownKeysAreErrorsWithASuggestion) {
  EXPECT_EQ(error(R"({"inner": {"pars": 1}})", "compress[0]"),
            "compress[0].inner.pars: unknown key; did you mean 'pairs'? known: pairs, name");
  EXPECT_EQ(error(R"({"inner": {"zzzzzzzz": 1}})"), "inner.zzzzzzzz: unknown key; known: pairs, name");
  EXPECT_EQ(error(R"({"parts": [{}, {"nam": 1}]})"),
            "parts[1].nam: unknown key; did you mean 'name'? known: pairs, name");
}

TEST(Fields, WrongTypesNameThePathAndWhatWasFound) {
  EXPECT_EQ(error(R"({"on": 1})"), "on: expected true or false, found an integer 1");
  EXPECT_EQ(error(R"({"rate": "0.1"})"), "rate: expected a number, found a string \"0.1\"");
  EXPECT_EQ(error(R"({"words": "b"})"), "words: expected an array, found a string \"b\"");
  EXPECT_EQ(error(R"({"words": ["b", 2]})"), "words[1]: expected a string, found an integer 2");
  EXPECT_EQ(error(R"({"inner": []})", "a"), "a.inner: expected an object, found an array []");
  EXPECT_EQ(error("[]"), "the config: expected an object, found an array []");
  EXPECT_EQ(error(R"({"limit": "x"})"), "limit: expected a number, found a string \"x\"");
  EXPECT_EQ(error(R"({"kind": 1})"), "kind: expected a string, found an integer 1");
}

TEST(Fields, IntegersOutOfRangeAreErrors) {
  EXPECT_EQ(error(R"({"seed": -1})"), "seed: -1 is outside 0..18446744073709551615");
  EXPECT_EQ(error(R"({"small": 2147483648})"), "small: 2147483648 is outside -2147483648..2147483647");
  EXPECT_EQ(error(R"({"small": -2147483649})"), "small: -2147483649 is outside -2147483648..2147483647");
  EXPECT_EQ(error(R"({"tiny": 256})"), "tiny: 256 is outside 0..255");
  EXPECT_THAT(error(R"({"count": 9223372036854775808})"), HasSubstr("is outside"));
  EXPECT_EQ(read(R"({"count": 9223372036854775807})").count, std::numeric_limits<std::int64_t>::max());
  EXPECT_THAT(error(R"({"count": 99999999999999999999})"), HasSubstr("expected an integer, found a number"));
}

TEST(Fields, EnumsAreReadByName) {
  EXPECT_EQ(read(R"({"kind": "slow"})").kind, Kind::kSlow);
  EXPECT_EQ(error(R"({"kind": "slw"})"), "kind: no 'slw'; did you mean 'slow'? known: fast, slow");
}

TEST(Fields, HelpHasNameDefaultAndDescription) {
  const auto lines = describe_fields<Inner>();
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_EQ(lines[1].name, "name");
  EXPECT_EQ(lines[1].default_value, "\"high\"");
  EXPECT_EQ(lines[1].description, "strategy");
}

TEST(PerLayer, ReadsANumberOrAList) {
  EXPECT_EQ(read(R"({"widths": 16})").widths.at(5), 16);
  EXPECT_EQ(read(R"({"widths": [16, 8]})").widths.at(1), 8);
  EXPECT_NE(PerLayer(8), PerLayer(std::vector<std::int64_t>{8})) << "a list of one layer is not the same statement";
}

TEST(PerLayer, BadValuesAreErrors) {
  EXPECT_EQ(error(R"({"widths": "8"})"),
            "widths: expected an integer, or a list with one per layer, found a string \"8\"");
  EXPECT_EQ(error(R"({"widths": []})"), "widths: expected an integer, or a list with one per layer, found an array []");
  EXPECT_EQ(error(R"({"widths": [1, 2.5]})"), "widths[1]: expected an integer, found a number 2.5");
  EXPECT_THAT(error(R"({"widths": 9223372036854775808})"), HasSubstr("is outside"));
}

TEST(PerLayer, ChecksLengthAndRange) {
  const PerLayer list(std::vector<std::int64_t>{4, 9});
  EXPECT_NO_THROW(list.check("x", 2, 0, 9));
  EXPECT_EQ(message_of<ConfigError>([&] { list.check("x", 3, 0, 9); }),
            "x: a list of 2 values; the model has 3 layers");
  EXPECT_EQ(message_of<ConfigError>([&] { list.check("x", 2, 0, 8); }), "x[1] = 9: must lie in 0..8");
  EXPECT_EQ(message_of<ConfigError>([&] { PerLayer(9).check("x", 2, 0, 8); }), "x = 9: must lie in 0..8");
}

}  // namespace
}  // namespace mla
