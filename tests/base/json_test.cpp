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
}

}  // namespace
}  // namespace mla
