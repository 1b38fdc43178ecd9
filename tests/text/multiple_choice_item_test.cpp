#include "core/text/multiple_choice_item.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/error.h"
#include "tests/support/errors.h"
#include "tests/support/temporary_folder.h"

namespace mla {
namespace {

using testing::HasSubstr;

TEST(MultipleChoiceItems, AreReadAsTheyWereWritten) {
  const test::TemporaryFolder folder;
  const std::vector<MultipleChoiceItem> items = {{"Who has it? \"Größe\"\n", {" Tom", " Anna"}, 1},
                                                 {"", {"a", "b", "c"}, 0}};
  const auto file = folder.write("items.jsonl", write_multiple_choice_items(items) + "\n");
  EXPECT_EQ(read_multiple_choice_items(file), items);
  EXPECT_EQ(read_multiple_choice_items(file, 1), std::vector(1, items[0]));
}

TEST(MultipleChoiceItems, ErrorsNameFileAndLine) {
  const test::TemporaryFolder folder;
  const auto message = [&](const std::string& second_line) {
    const std::string good = R"({"context": "x", "choices": [" a", " b"], "answer": 0})";
    const auto file = folder.write("bad.jsonl", good + "\n" + second_line + "\n");
    return test::message_of<DataError>([&] { read_multiple_choice_items(file); });
  };
  EXPECT_THAT(message(R"({"context": "x", "choices": [" a", " b"], "answer": 2})"),
              HasSubstr("bad.jsonl: line 2: answer = 2 is outside 0..1"));
  EXPECT_THAT(message(R"({"context": "x", "choices": [" a", " b"], "answer": -1})"),
              HasSubstr("answer = -1 is outside"));
  EXPECT_THAT(message(R"({"context": "x", "choices": [" a", " "], "answer": 0})"), HasSubstr("choices[1] is empty"));
  EXPECT_THAT(message(R"({"context": "x", "choices": [" a", " a"], "answer": 0})"),
              HasSubstr("choices[0] and choices[1] are the same"));
  EXPECT_THAT(message(R"({"context": "x", "choices": [" a"], "answer": 0})"), HasSubstr("at least 2, found 1"));
  EXPECT_THAT(message(R"({"context": "x", "choices": [" a", " b"]})"), HasSubstr("line 2: field answer is missing"));
  EXPECT_THAT(message(R"({"choices": [" a", " b"], "answer": 0})"), HasSubstr("field context is missing"));
  EXPECT_THAT(message(R"({"context": "x", "choices": " a", "answer": 0})"), HasSubstr("choices: expected an array"));
  EXPECT_THAT(message(R"({"context": "x", "choises": [], "answer": 0})"), HasSubstr("did you mean 'choices'"));
  EXPECT_THAT(message("{oops"), HasSubstr("line 2"));
  const auto empty = folder.write("empty.jsonl", "\n\n");
  EXPECT_THAT(test::message_of<DataError>([&] { read_multiple_choice_items(empty); }), HasSubstr("holds no item"));
}

}  // namespace
}  // namespace mla
