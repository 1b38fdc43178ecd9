#include "core/base/json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "core/base/error.h"
#include "core/base/file.h"
#include "tests/support/errors.h"
#include "tests/support/temporary_folder.h"

namespace mla {
namespace {

using test::message_of;
using test::TemporaryFolder;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

TEST(Json, KeepsTheOrderOfKeysAndSkipsComments) {
  const Json json = parse_json("{ // first\n \"z\": 1, /* second */ \"a\": [2]}", "x.json");
  EXPECT_EQ(json.dump(), R"({"z":1,"a":[2]})");
}

TEST(Json, MalformedTextIsReportedWithLineAndColumn) {
  const auto message = [](const std::string& text) {
    return message_of<DataError>([&] { parse_json(text, "x.json"); });
  };
  EXPECT_THAT(message("{\n  \"a\": 1,\n  \"b\": }\n"), StartsWith("x.json:3:8: malformed JSON: "));
  EXPECT_THAT(message("oops"), StartsWith("x.json:1:1: "));
  EXPECT_THAT(message("{\"a\": 1,\n"), StartsWith("x.json:2:1: "));
  EXPECT_THAT(message("{\"a\":\n 1e999}"), AllOf(StartsWith("x.json"), HasSubstr("1e999")));
  EXPECT_THAT(message("[1,\n\n\n nil]"), Not(HasSubstr("\n")));
}

TEST(Json, WritesAndReadsAFile) {
  const TemporaryFolder folder;
  const Json json = {{"b", 1}, {"a", {1.5, nullptr, "é"}}};
  write_json(folder / "sub/x.json", json);
  EXPECT_EQ(read_json(folder / "sub/x.json"), json);
  EXPECT_EQ(read_file(folder / "sub/x.json").back(), '\n');
}

TEST(Json, LargeObjectsAreReadWithTheSameErrors) {
  const TemporaryFolder folder;
  EXPECT_EQ(read_large_json(folder.write("x.json", R"({"b": 1, "a": 2})"))["b"], 1);
  EXPECT_THAT(message_of<DataError>([&] { read_large_json(folder.write("y.json", "{\n\"a\" 1}")); }),
              HasSubstr("y.json:2:5: malformed JSON: "));
}

std::string nested(std::size_t levels, const std::string& inside = "") {
  return std::string(levels, '[') + inside + std::string(levels, ']');
}

TEST(Json, DepthIsLimitedBeforeParsing) {
  const auto message = [](const std::string& text) {
    return message_of<DataError>([&] { parse_json(text, "x.json"); });
  };
  EXPECT_NO_THROW(parse_json(nested(kJsonDepth), "x.json"));
  EXPECT_THAT(message("{\"a\":\n" + nested(kJsonDepth) + "}"),
              StartsWith("x.json:2:127: JSON of this form is not read"));
  for (const std::size_t levels : {std::size_t{128}, std::size_t{100000}, std::size_t{1000000}}) {
    EXPECT_THAT(message(std::string(levels, '[')), HasSubstr("nested too deep; at most 127 levels"));
    EXPECT_THAT(message("//\r" + nested(levels)), HasSubstr("nested too deep"));
    std::string objects;
    for (std::size_t i = 0; i < levels; ++i) objects += "{\"a\":";
    EXPECT_THAT(message(objects), HasSubstr("nested too deep"));
    EXPECT_THAT(message_of<DataError>([&] { parse_large_json(nested(levels), "x.json"); }), HasSubstr("too deep"));
    EXPECT_FALSE(try_parse_json(nested(levels)));
  }
}

TEST(Json, BracketsInStringsAndCommentsAreNoLevels) {
  const std::string many(1000, '[');
  EXPECT_EQ(parse_json("[\"\\\"" + many + "\\\\\", /* " + many + "*/ 1 // " + many + "\n, 2]", "x.json").size(), 3u);
}

TEST(Json, ManyKeysOfOneObjectAreRefusedBeforeTheyTakeTheirTime) {
  std::string text = "{";
  for (std::size_t i = 0; i < 300000; ++i) text += cat(i > 0 ? "," : "", "\"", i, "\":0");
  text += "}";
  EXPECT_THAT(message_of<DataError>([&] { parse_json(text, "x.json"); }), HasSubstr("too many keys in one object"));
  EXPECT_EQ(parse_large_json(text, "x.json").size(), 300000u);
}

TEST(Json, AZeroByteIsNotTheEnd) {
  EXPECT_THAT(message_of<DataError>([] { parse_json(std::string("{}\0{", 4), "x.json"); }), HasSubstr("a zero byte"));
  EXPECT_FALSE(try_parse_json(std::string_view("1\0x", 3)));
}

TEST(Json, MessagesAreShortWhateverTheFileHolds) {
  const auto length = [](const std::string& text) {
    return message_of<DataError>([&] { parse_json(text, "x.json"); }).size();
  };
  EXPECT_LT(length("\"" + std::string(1000000, 'x')), 400u);
  EXPECT_LT(length("[" + std::string(1000000, '9') + "]"), 400u);
  EXPECT_LT(length("[" + std::string(1000000, 'n') + "]"), 400u);
}

TEST(Json, TextThatIsNotUtf8IsWrittenWithAReplacement) {
  const TemporaryFolder folder;
  write_json(folder / "x.json", Json{{"text", "a\xff"}});
  EXPECT_EQ(read_json(folder / "x.json")["text"], "a\uFFFD");
}

TEST(Json, KindsAndBriefTextForMessages) {
  EXPECT_EQ(kind_of(Json(nullptr)), "null");
  EXPECT_EQ(kind_of(Json(true)), "a boolean");
  EXPECT_EQ(kind_of(Json(3)), "an integer");
  EXPECT_EQ(kind_of(Json(3.5)), "a number");
  EXPECT_EQ(kind_of(Json("x")), "a string");
  EXPECT_EQ(kind_of(Json::array()), "an array");
  EXPECT_EQ(kind_of(Json::object()), "an object");
  EXPECT_EQ(brief(Json{{"a", 1}}), R"({"a":1})");
  EXPECT_EQ(brief(Json(std::string(500, 'x'))).size(), 80u);
  EXPECT_THAT(brief(Json(std::string(500, 'x'))), testing::EndsWith("xxx..."));
  EXPECT_EQ(kind_of(LargeJson(3)), "an integer");
  EXPECT_EQ(brief(LargeJson{{"a", {1, "x"}}}), R"({"a":[1,"x"]})");
  EXPECT_EQ(brief(Json::array({Json::object(), Json::array(), true, "é"})), "[{},[],true,\"\\u00e9\"]");
}

TEST(Json, BriefTextOfWhatIsTooLargeToWrite) {
  Json deep = 1;
  for (int i = 0; i < 100000; ++i) deep = Json::array({std::move(deep)});
  EXPECT_EQ(brief(deep), std::string(77, '[') + "...");
  Json wide = Json::object();
  for (int i = 0; i < 1000; ++i) wide[std::string(100, 'k') + std::to_string(i)] = i;
  EXPECT_EQ(brief(wide).size(), 80u);
  EXPECT_EQ(brief_text(std::string(1000, 'n')).size(), 80u);
  EXPECT_EQ(brief_text("a\nb\x1b"), "a\\nb\\u001b");
}

}  // namespace
}  // namespace mla
