// Chat templates: what Jinja makes of them (golden/chat_templates.json says by which program), without Jinja.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/error.h"
#include "core/base/json.h"
#include "core/text/chat.h"
#include "tests/support/errors.h"
#include "tests/support/gguf_bytes.h"
#include "tests/support/temporary_folder.h"
#include "tests/text/tiny_tokenizers.h"

namespace mla {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr const char* kQuestion = " Hi there ";

TEST(ChatTemplate, GivesWhatItsJinjaTextDoes) {
  const Json golden = read_json(std::string(MLA_SOURCE_DIR) + "/tests/text/golden/chat_templates.json");
  const std::string eos = golden["eos"];
  ASSERT_EQ(golden["templates"].size(), 7u);
  for (const Json& one : golden["templates"]) {
    const std::string name = one["name"], jinja = one["template"];
    const ChatPrompt plain = chat_prompt(jinja, {}, kQuestion, eos, name);
    EXPECT_EQ(plain.text, one["plain"].get<std::string>()) << name;
    EXPECT_EQ(plain.begins_with_bos, one["bos"].get<bool>()) << name;
    if (one["system"].is_null()) {
      EXPECT_THAT(test::message_of<DataError>([&] { chat_prompt(jinja, "Be brief.", kQuestion, eos, name); }),
                  HasSubstr(name + ": its chat template, Mistral's, has no place for a system message"));
    } else {
      EXPECT_EQ(chat_prompt(jinja, "Be brief.", kQuestion, eos, name).text, one["system"].get<std::string>()) << name;
    }
  }
}

/// The last turn's white space behind its mark, which no model is to write, is left out.
TEST(ChatTemplate, WritesWholeConversationsAsItsJinjaTextDoes) {
  const Json golden = read_json(std::string(MLA_SOURCE_DIR) + "/tests/text/golden/chat_templates.json");
  std::vector<ChatMessage> messages = {{"user", kQuestion}, {"assistant", " Hello "}};
  const auto written = [&](const Json& one) {
    std::string text;
    for (const ChatPiece& piece : chat_text(one["template"], messages, golden["eos"], one["name"]).pieces)
      text += piece.text;
    return text;
  };
  const auto trimmed = [](std::string text) { return text.erase(text.find_last_not_of('\n') + 1); };
  int compared = 0;
  for (const char* key : {"conversation", "two_turns"}) {
    for (const Json& one : golden["templates"]) {
      if (one[key].is_null()) continue;
      ++compared;
      EXPECT_EQ(written(one), trimmed(one[key])) << one["name"] << " " << key;
    }
    messages.push_back({"user", "And now?"});
    messages.push_back({"assistant", "Bye"});
  }
  EXPECT_EQ(compared, 11);
}

TEST(ChatTemplate, OnlyAnswersAreToBeLearnt) {
  const ChatText text =
      chat_text("<|im_start|><|im_end|>", {{"system", "s"}, {"user", "q"}, {"assistant", "a"}}, "", "x");
  ASSERT_EQ(text.pieces.size(), 2u);
  EXPECT_FALSE(text.pieces[0].answer);
  EXPECT_TRUE(text.pieces[1].answer);
  EXPECT_EQ(text.pieces[1].text, "a<|im_end|>");
  const auto refused = [](const std::vector<ChatMessage>& messages, const char* jinja = "<|im_start|><|im_end|>") {
    return test::message_of<DataError>([&] { chat_text(jinja, messages, "</s>", "x"); });
  };
  EXPECT_THAT(refused({{"user", "q"}}), HasSubstr("x: messages[0]: expected a message of the user and one of the"));
  EXPECT_THAT(refused({{"assistant", "a"}, {"user", "q"}}), HasSubstr("x: messages[0]: expected"));
  EXPECT_THAT(refused({{"system", "s"}}), HasSubstr("x: messages: holds no question with its answer"));
  EXPECT_THAT(
      refused({{"user", "q"}, {"assistant", "a"}, {"user", "q"}, {"assistant", "a"}}, "[INST] <<SYS>>"),
      HasSubstr("x: messages[2]: of the chat template, Llama 2's, one question and its answer are known alone"));
}

TEST(ChatTemplate, TheAnswerEndsWithTheTurn) {
  EXPECT_EQ(chat_prompt("<|im_start|><|im_end|>", {}, "", "</s>", "x").end_of_turn, "<|im_end|>");
  EXPECT_EQ(chat_prompt("<|start_header_id|><|eot_id|>", {}, "", "</s>", "x").end_of_turn, "<|eot_id|>");
  EXPECT_EQ(chat_prompt("[INST] ' [/INST]", {}, "", "</s>", "x").end_of_turn, "</s>");
}

TEST(ChatTemplate, LaterLlamasSayWhatDayItIs) {
  const std::string jinja = "<|start_header_id|><|eot_id|> Cutting Knowledge Date: December 2023";
  EXPECT_THAT(chat_prompt(jinja, {}, "Hi", "", "x").text,
              HasSubstr("system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n"
                        "<|eot_id|>"));
}

TEST(ChatTemplate, OthersAreRefusedByName) {
  for (const char* jinja :
       {"{{ '<start_of_turn>' }}", "<|user|> eos_token <|end|>", "<|im_start|> <|im_sep|> <|im_end|>"}) {
    EXPECT_THAT(test::message_of<DataError>([&] { chat_prompt(jinja, {}, "Hi", "", "model.gguf"); }),
                AllOf(HasSubstr("model.gguf: its chat template, '"), HasSubstr(std::string(jinja).substr(0, 10)),
                      HasSubstr("is of no known family: ChatML, Llama 3, Llama 2, Mistral, Zephyr")));
  }
}

TEST(ChatTemplate, StandsInSeveralPlaces) {
  const test::TemporaryFolder folder;
  EXPECT_THAT(test::message_of<DataError>([&] { read_chat_template(folder.path()); }),
              HasSubstr("holds no chat template"));
  folder.write("tokenizer_config.json",
               R"({"chat_template": [{"name": "tools", "template": "t"}, {"name": "default", "template": "d"}]})");
  EXPECT_EQ(read_chat_template(folder.path()), "d");
  folder.write("tokenizer_config.json", R"({"chat_template": "one"})");
  EXPECT_EQ(read_chat_template(folder.path()), "one");
  EXPECT_EQ(read_chat_template(folder / "tokenizer.json"), "one") << "beside a tokenizer's file";
  folder.write("chat_template.jinja", "file");
  EXPECT_EQ(read_chat_template(folder.path()), "file");
  const auto gguf = folder.write("x.gguf", test::GgufBytes().text("tokenizer.chat_template", "inside").bytes());
  EXPECT_EQ(read_chat_template(gguf), "inside");
  EXPECT_THAT(
      test::message_of<DataError>([&] {
        read_chat_template(folder.write("y.gguf", test::GgufBytes().number("tokenizer.chat_template", 1U).bytes()));
      }),
      HasSubstr("tokenizer.chat_template = 1: expected a string"));
}

TEST(Chat, AsksInTokens) {
  const test::TemporaryFolder folder;
  folder.write("tokenizer.json", test::tiny_sentencepiece_like().dump());
  const auto tokenizer = load_tokenizer(folder.path());
  ASSERT_TRUE(tokenizer->bos());
  folder.write("chat_template.jinja", "<|im_start|> <|im_end|>");
  const Chat plain(folder.path(), *tokenizer, "Be brief.");
  EXPECT_TRUE(plain.first().empty());
  const std::string text = plain.text("ab");
  EXPECT_EQ(text, chat_prompt("<|im_start|> <|im_end|>", "Be brief.", "ab", "", "x").text);
  EXPECT_EQ(plain.ask("ab", "cab"), tokenizer->encode(text + "cab", {.parse_special = true}));
  EXPECT_EQ(plain.end(), std::nullopt) << "the tiny tokenizer spells <|im_end|> in several tokens";
  // Where the template begins with BOS and turns end with EOS:
  folder.write("chat_template.jinja", "bos_token <|user|> eos_token");
  const Chat zephyr(folder.path(), *tokenizer);
  EXPECT_EQ(zephyr.first(), std::vector{*tokenizer->bos()});
  EXPECT_EQ(zephyr.ask("ab").front(), *tokenizer->bos());
  EXPECT_EQ(zephyr.end(), tokenizer->eos());
  folder.write("chat_template.jinja", "{{ '<start_of_turn>' }}");
  EXPECT_THAT(test::message_of<DataError>([&] { Chat(folder.path(), *tokenizer); }), HasSubstr("is of no known family"))
      << "before anything is asked";
}

}  // namespace
}  // namespace mla
