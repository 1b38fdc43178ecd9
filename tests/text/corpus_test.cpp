#include "core/text/corpus.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/error.h"
#include "tests/support/errors.h"
#include "tests/support/temporary_folder.h"
#include "tests/text/tiny_tokenizers.h"

namespace mla {
namespace {

using Texts = std::vector<std::string>;
using testing::HasSubstr;

Texts read(const std::string& name, const std::string& content, const DocumentOptions& options = {}) {
  test::TemporaryFolder folder;
  folder.write(name, content);
  return read_documents(folder.path() / name, options);
}

std::string error_of(const std::string& name, const std::string& content) {
  return test::message_of<DataError>([&] { read(name, content); });
}

TEST(Documents, AFileIsOneOrIsCutAtTheSeparator) {
  EXPECT_EQ(read("a.txt", "one\ntwo\n"), Texts{"one\ntwo\n"});
  EXPECT_EQ(read("a.txt", "one<|e|>\n <|e|>two", {.separator = "<|e|>"}), (Texts{"one", "two"}));
  EXPECT_EQ(read("a.txt", "a\xFFz"), Texts{"a\uFFFDz"});
}

TEST(Documents, WhatLooksLikeSomethingElseIsReadAsTextAndSaidSo) {
  const auto warning = [](const std::string& name, const std::string& content) {
    testing::internal::CaptureStderr();
    EXPECT_EQ(read(name, content), Texts{content});
    return testing::internal::GetCapturedStderr();
  };
  EXPECT_THAT(warning("a.txt", "{\"text\": \"one\"}\n{}\n"),
              HasSubstr("looks like JSON lines; with the extension .jsonl"));
  EXPECT_THAT(warning("a", "[{\"text\": \"one\"}]"), HasSubstr("looks like a JSON array; with the extension .json"));
  EXPECT_THAT(warning("a.txt", "<!DOCTYPE html><p>one"), HasSubstr("looks like a page with markup"));
  EXPECT_THAT(warning("a.csv", "text,label\none,1\n"), HasSubstr("is named as a table"));
  EXPECT_THAT(warning("a.txt", "<p> [1] {\"a\"} one, two"), testing::IsEmpty());
}

TEST(Documents, WhiteSpaceIsNormalizedLineByLine) {
  EXPECT_EQ(read("a.txt", "  a \t b\u00A0 c \n\n \n d\r\n", {.normalize_whitespace = true}), Texts{"a b c\nd"});
}

TEST(Documents, ComeFromJsonLinesAndArrays) {
  EXPECT_EQ(read("a.jsonl", "{\"text\": \"one\"}\n\n{\"text\": \"two\", \"id\": 3}\n"), (Texts{"one", "two"}));
  EXPECT_EQ(read("a.jsonl", "{\"story\": \"one\"}\n", {.jsonl_field = "story"}), Texts{"one"});
  EXPECT_EQ(read("a.json", "[\"one\", \"two\"]"), (Texts{"one", "two"}));
}

TEST(Documents, JsonIsReadInWhicheverFormItStands) {
  const Texts both{"one", "two"};
  EXPECT_EQ(read("a.json", "{\"text\": \"one\"}\n{\"text\": \"two\"}\n"), both);
  EXPECT_EQ(read("a.json", "[{\"text\": \"one\", \"n\": [1, \"]\"]},\n {\"text\": \"two\"}]\n"), both);
  EXPECT_EQ(read("a.jsonl", " [\"one\",\n\"two\"]"), both);
  EXPECT_EQ(read("a.jsonl", "\"one\"\n\"two\""), both);
  EXPECT_EQ(read("a.ndjson", "{\"text\": \"one\"}\r\n{\"text\": \"two\"}"), both);
  EXPECT_EQ(read("a.json", "{\n  \"text\": \"one\",\n  \"n\": {}\n}\n"), Texts{"one"});
  EXPECT_EQ(read("a.json", "[\"a \\\" ] \\\\\", \"[,\"]"), (Texts{"a \" ] \\", "[,"}));
  EXPECT_EQ(read("a.jsonl", "\xEF\xBB\xBF{\"text\": \"one\"}\n"), Texts{"one"});
}

TEST(Documents, OneLineSaysWhatIsThereAndWhatHelps) {
  EXPECT_THAT(error_of("a.jsonl", "{\"content\": \"one\", \"id\": 3}\n"),
              HasSubstr("line 1: expected an object with a string 'text', found one with the fields \"content\" (a "
                        "string), \"id\" (an integer); name the field of the text with jsonl_field"));
  EXPECT_THAT(error_of("a.jsonl", "{\"text\": \"one\"}\n{\"text\": null}\n"),
              HasSubstr("line 2: expected an object with a string 'text', found null there; skip_bad_lines"));
  EXPECT_THAT(error_of("a.jsonl", "{\"messages\": [{\"role\": \"user\", \"content\": \"one\"}]}\n"),
              HasSubstr("\"messages\" (an array); a chat's messages are no text"));
  EXPECT_THAT(error_of("a.json", "[{\"meta\": {\"text\": \"one\"}}]"), HasSubstr("not of one in it"));
  EXPECT_THAT(error_of("a.jsonl", "{\"text\": \"one\", \"text\": \"two\"}\n"), HasSubstr("'text' is there twice"));
  EXPECT_EQ(read("a.jsonl", "{\"text\": \"one\", \"more\": {\"text\": \"\\\"text\\\"\"}}\n"), Texts{"one"});
  EXPECT_THAT(error_of("a.jsonl", "{\"text\": \"\\ud800\"}\n"), HasSubstr("a.jsonl: line 1:1:"));
  EXPECT_THAT(error_of("a.json", "[\"one\", \"tw"), HasSubstr("item 1: the array is cut short"));
  EXPECT_THAT(error_of("a.json", "[\"one\"]\n[\"two\"]"), HasSubstr("more follows the JSON array"));
  EXPECT_THAT(error_of("a.json", "[\"one\",]"), HasSubstr("a.json: item 1"));
}

TEST(Documents, BadLinesAreLeftOutAndCountedWhenTheyMay) {
  test::TemporaryFolder folder;
  const auto file = folder.write("a.jsonl", "{\"text\": \"one\"}\n{\"text\": null}\n[1]\n{\"text\": \"two\"}\n{\"te");
  std::int64_t skipped = 0;
  EXPECT_EQ(read_documents(file, {.skip_bad_lines = true}, 0, &skipped), (Texts{"one", "two"}));
  EXPECT_EQ(skipped, 3);
  EXPECT_EQ(read_documents(file, {.skip_bad_lines = true}, 1, &skipped), Texts{"one"});
  const auto none = folder.write("b.jsonl", "{}\n");
  EXPECT_THAT(test::message_of<DataError>([&] { read_documents(none, {.skip_bad_lines = true}); }),
              HasSubstr("the corpus is empty: all 1 JSON values are bad"));
}

TEST(Documents, ErrorsNameFileAndLine) {
  EXPECT_THAT(error_of("a.jsonl", "{\"text\": \"one\"}\n{\"body\": 1}\n"),
              HasSubstr("a.jsonl: line 2: expected an object with a string 'text'"));
  EXPECT_THAT(error_of("a.jsonl", "{\"text\": \"one\"}\n{\"text\"\n"), HasSubstr("a.jsonl: line 2"));
  EXPECT_THAT(error_of("a.json", "{\"a\": 1}"),
              HasSubstr("a.json: line 1: expected an object with a string 'text', found one with the fields \"a\""));
  EXPECT_THAT(error_of("a.json", "[\"a\", 1]"), HasSubstr("a.json: item 1: expected a string"));
  EXPECT_THAT(error_of("a.txt", " \n\t"), HasSubstr("a.txt: the corpus is empty"));
  EXPECT_THAT(test::message_of<DataError>([] { read_documents("/nowhere/a.txt"); }), HasSubstr("/nowhere/a.txt"));
}

TEST(TokenRows, AreReadFromJson) {
  test::TemporaryFolder folder;
  folder.write("a.json", R"({"ids": [[1, 2], [], [3]], "note": "x"})");
  EXPECT_EQ(read_token_rows(folder.path() / "a.json").rows, (std::vector<std::vector<std::int32_t>>{{1, 2}, {}, {3}}));
  folder.write("a.json", R"({"ids": [[1], [2, -3]]})");
  EXPECT_THAT(test::message_of<DataError>([&] { read_token_rows(folder.path() / "a.json"); }),
              HasSubstr("a.json: ids[1][1]: expected an id >= 0, found -3"));
  for (const char* id : {"1.5", "\"1\"", "null", "2147483648", "9223372036854775808", "18446744073709551617", "true"}) {
    folder.write("a.json", std::string("{\"ids\": [[") + id + "]]}");
    EXPECT_THAT(test::message_of<DataError>([&] { read_token_rows(folder.path() / "a.json"); }),
                HasSubstr("a.json: ids[0][0]: expected an id >= 0, found"))
        << id;
  }
  folder.write("a.json", "[[1]]");
  EXPECT_THAT(test::message_of<DataError>([&] { read_token_rows(folder.path() / "a.json"); }), HasSubstr("\"ids\""));
}

TEST(TokenRows, AreMadeOfDocuments) {
  test::TemporaryFolder folder;
  folder.write("tokenizer.json", test::tiny_byte_level().dump());
  const auto tokenizer = load_tokenizer(folder.path());
  const TokenRows rows = tokenize_documents(*tokenizer, {"hello", "é"}, {}, 2);
  EXPECT_EQ(rows.rows, (std::vector<std::vector<std::int32_t>>{{259}, {0xC3, 0xA9}}));
  EXPECT_EQ(rows.bytes, 7);
}

}  // namespace
}  // namespace mla
