// The tokenize and list commands, which need no model.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/registry.h"
#include "core/partial_rope/key_rotation.h"
#include "tests/support/run_program.h"
#include "tests/support/shared_data.h"
#include "tests/text/tiny_tokenizers.h"

namespace mla {
namespace {

using test::run_program;

class TokenizeCommand : public testing::Test {
 protected:
  std::vector<std::string> command(const std::vector<std::string>& more) const {
    std::vector<std::string> all = {"tokenize", "--tokenizer", folder_.path().string()};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
  test::TemporaryFolder folder_;
  std::filesystem::path file_ = folder_.write("tokenizer.json", test::tiny_sentencepiece_like().dump());
};

TEST_F(TokenizeCommand, EncodesJsonWithoutSpecialTokens) {
  const auto result = run_program(command({"--json"}), R"({"texts": ["ab", "", "ab ab"]})");
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_EQ(result.err, "");
  EXPECT_EQ(result.json(), Json({{"ids", {{264}, Json::array(), {264, 264}}}}));
}

TEST_F(TokenizeCommand, AddsSpecialTokensWhenAsked) {
  EXPECT_EQ(run_program(command({"--json", "--special"}), R"({"texts": ["ab"]})").json(), Json({{"ids", {{1, 264}}}}));
}

TEST_F(TokenizeCommand, EncodesLinesOfText) {
  EXPECT_EQ(run_program(command({}), "ab ab\n\nab\n").out, "264 264\n\n264\n");
  const auto input = folder_.write("input.txt", "ab\n");
  EXPECT_EQ(run_program(command({"--input", input.string()})).out, "264\n");
}

TEST_F(TokenizeCommand, DecodesWhatItEncoded) {
  const std::string texts = R"({"texts":["ab ab","ba é"]})";
  const std::string ids = run_program(command({"--json"}), texts).out;
  EXPECT_EQ(run_program(command({"--json", "--decode"}), ids).out, texts + "\n");
  EXPECT_EQ(run_program(command({"--decode"}), "264 264\n1 264\n").out, "ab ab\nab\n");
  EXPECT_EQ(run_program(command({"--decode", "--special"}), "1 264\n").out, "<s> ab\n");
}

TEST_F(TokenizeCommand, ThreadsDoNotChangeTheResult) {
  Json texts = Json::array();
  for (int i = 0; i < 200; ++i) texts.push_back(std::string(static_cast<std::size_t>(i), 'a') + " ab");
  const std::string request = Json({{"texts", texts}}).dump();
  EXPECT_EQ(run_program(command({"--json", "--threads", "1"}), request).out,
            run_program(command({"--json", "--threads", "2"}), request).out);
}

TEST_F(TokenizeCommand, RefusesWrongInput) {
  const auto error = [&](std::vector<std::string> more, const std::string& input) {
    const auto result = run_program(command(more), input);
    EXPECT_EQ(result.exit_code, 3) << result.err;
    return result.err;
  };
  EXPECT_EQ(error({"--json"}, R"({"texts": ["a", 5]})"),
            "mlaforge tokenize: standard input: texts[1]: expected a string, found an integer 5\n");
  EXPECT_EQ(error({"--json"}, "{}"), "mlaforge tokenize: standard input: key texts is missing\n");
  EXPECT_EQ(error({"--json", "--decode"}, R"({"texts": []})"),
            "mlaforge tokenize: standard input: texts: unknown key; known: ids\n");
  EXPECT_THAT(error({"--json"}, "{\n  \"texts\": [}"),
              testing::StartsWith("mlaforge tokenize: standard input:2:13: malformed JSON"));
  EXPECT_EQ(error({"--decode"}, "1 2\n3 x\n"),
            "mlaforge tokenize: standard input:2: expected ids separated by spaces\n");
  EXPECT_THAT(error({"--decode"}, "265\n"), testing::HasSubstr("265"));
}

TEST(TokenizeLlama2c, FindsTheTokenizerBesideTheModel) {
  const std::string folder = "data/weights/stories260K";
  MLA_NEEDS_SHARED(folder);
  const auto result =
      run_program({"tokenize", "--tokenizer", (test::shared_folder() / folder).string(), "--special", "--json"},
                  R"({"texts": ["Once upon a time"]})");
  EXPECT_EQ(result.json(), Json({{"ids", {{1, 403, 407, 261, 378}}}}));
}

TEST(ListCommand, NamesEveryStrategyWithItsOptions) {
  const Json all = run_program({"list", "--json"}).json();
  for (const char* kind : {"family", "pass", "rope", "low_rank"}) EXPECT_FALSE(all.at(kind).empty()) << kind;
  const auto& registry = Registry<RotationStrategy>::instance();
  ASSERT_EQ(all["rope"].size(), registry.names().size());
  for (const Json& strategy : all["rope"]) {
    const auto& entry = registry.find(strategy["name"], "list");
    EXPECT_EQ(strategy["description"], entry.description);
    ASSERT_EQ(strategy["options"].size(), entry.options.size());
    for (const Json& option : strategy["options"]) {
      EXPECT_EQ(option["default"], entry.defaults.at(option["name"].get<std::string>()));
      EXPECT_NE(option["description"], "");
    }
  }
  EXPECT_EQ(run_program({"list", "rope", "--json"}).json(), Json({{"rope", all["rope"]}}));
  EXPECT_THAT(run_program({"list", "rope"}).out,
              testing::AllOf(testing::HasSubstr("two_norm"), testing::HasSubstr("pairs")));
}

}  // namespace
}  // namespace mla
