// Files that are missing, broken or of a kind that is not supported: one line that names the place.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/error.h"
#include "core/text/tokenizer.h"
#include "tests/support/errors.h"
#include "tests/support/temporary_folder.h"
#include "tests/text/tiny_tokenizers.h"

namespace mla {
namespace {

using test::TinyJson;
using testing::AllOf;
using testing::HasSubstr;

std::string tokenizer_error(const std::string& name, const std::string& content) {
  test::TemporaryFolder folder;
  folder.write(name, content);
  return test::message_of<DataError>([&] { load_tokenizer(folder.path() / name); });
}

std::string tokenizer_error(const TinyJson& json) { return tokenizer_error("tokenizer.json", json.dump()); }

TEST(MalformedTokenizer, NothingThere) {
  test::TemporaryFolder folder;
  EXPECT_THAT(test::message_of<DataError>([&] { load_tokenizer(folder.path()); }),
              AllOf(HasSubstr("no tokenizer"), HasSubstr("tokenizer.json"), HasSubstr("*.tiktoken")));
  EXPECT_THAT(test::message_of<DataError>([&] { load_tokenizer(folder.path() / "absent"); }),
              HasSubstr("absent: no such tokenizer file or folder"));
  EXPECT_THAT(tokenizer_error("notes.txt", "hello"), HasSubstr("notes.txt: not a tokenizer by its name"));
}

TEST(MalformedTokenizer, BrokenJson) {
  const std::string whole = test::tiny_byte_level().dump();
  EXPECT_THAT(tokenizer_error("tokenizer.json", whole.substr(0, whole.size() / 2)),
              AllOf(HasSubstr("tokenizer.json:1:"), HasSubstr("malformed JSON")));
  EXPECT_THAT(tokenizer_error("tokenizer.json", "[]"), HasSubstr("expected a tokenizer.json with a model"));
}

TEST(MalformedTokenizer, Vocabulary) {
  TinyJson json = test::tiny_byte_level();
  json["model"]["vocab"]["he"] = -1;
  EXPECT_THAT(tokenizer_error(json), HasSubstr("model.vocab: token 'he' has the id -1"));
  json["model"].erase("vocab");
  EXPECT_THAT(tokenizer_error(json), HasSubstr("model.vocab: missing"));
}

TEST(MalformedTokenizer, Merges) {
  TinyJson json = test::tiny_byte_level();
  json["model"]["merges"][2] = "he x y";
  EXPECT_THAT(tokenizer_error(json), HasSubstr("model.merges[2]: 'he x y' is not two tokens"));
  json["model"]["merges"][2] = "h q";
  EXPECT_THAT(tokenizer_error(json), HasSubstr("model.merges[2]: 'h q': 'hq' is not in the vocabulary"));
  json["model"]["merges"][2] = TinyJson::array({"Ā€", "e"});
  EXPECT_THAT(tokenizer_error(json), HasSubstr("'Ā€' is not in the vocabulary"));
  json["model"].erase("merges");
  EXPECT_THAT(tokenizer_error(json), HasSubstr("model.merges: expected a list of merges"));
}

TEST(MalformedTokenizer, MergesBesideAVocabulary) {
  test::TemporaryFolder folder;
  folder.write("vocab.json", test::tiny_byte_level()["model"]["vocab"].dump());
  const auto error = [&] { return test::message_of<DataError>([&] { load_tokenizer(folder.path()); }); };
  EXPECT_THAT(error(), AllOf(HasSubstr("vocab.json: needs"), HasSubstr("merges.txt beside it")));
  folder.write("merges.txt", "#version: 0.2\n");
  EXPECT_THAT(error(), HasSubstr("merges.txt: no merges"));
  folder.write("merges.txt", "#version: 0.2\nh e\nhe\n");
  EXPECT_THAT(error(), HasSubstr("merges.txt:3: 'he' is not two tokens"));
}

TEST(UnsupportedComponent, IsRefusedByName) {
  const auto with = [](const char* part, const TinyJson& value) {
    TinyJson json = test::tiny_byte_level();
    json[part] = value;
    return tokenizer_error(json);
  };
  EXPECT_THAT(with("normalizer", {{"type", "Precompiled"}}),
              HasSubstr("normalizer.type: 'Precompiled' is not supported"));
  EXPECT_THAT(with("pre_tokenizer", {{"type", "BertPreTokenizer"}}),
              HasSubstr("pre_tokenizer.type: 'BertPreTokenizer'"));
  EXPECT_THAT(with("decoder", {{"type", "WordPiece"}}), HasSubstr("decoder.type: 'WordPiece'"));
  EXPECT_THAT(with("post_processor", {{"type", "BertProcessing"}}), HasSubstr("post_processor.type: 'BertProcessing'"));
  EXPECT_THAT(with("model", {{"type", "Unigram"}}),
              HasSubstr("model.type: 'Unigram' is not supported; supported: BPE"));
  EXPECT_THAT(
      with("pre_tokenizer", {{"type", "Sequence"}, {"pretokenizers", {{{"type", "ByteLevel"}}, {{"type", "Digits"}}}}}),
      HasSubstr("ByteLevel is supported only as the last pre-tokenizer"));
  EXPECT_THAT(with("pre_tokenizer", {{"type", "Split"}, {"pattern", {{"Regex", "(a"}}}, {"behavior", "Isolated"}}),
              HasSubstr("pre_tokenizer.pattern: regular expression (a: "));
  EXPECT_THAT(with("pre_tokenizer", {{"type", "Split"}, {"pattern", {{"Regex", 3}}}, {"behavior", "Isolated"}}),
              HasSubstr("pre_tokenizer.pattern.Regex: an integer does not fit here"));
  EXPECT_THAT(with("pre_tokenizer", {{"type", "Split"}, {"pattern", {{"Regex", "a"}}}, {"behavior", "Sideways"}}),
              HasSubstr("pre_tokenizer.behavior: 'Sideways' is not supported"));
}

TEST(UnsupportedComponent, ModelOptionsThatChangeTheResult) {
  for (const auto& [key, value] : {std::pair<const char*, TinyJson>{"dropout", 0.1},
                                   {"continuing_subword_prefix", "##"},
                                   {"end_of_word_suffix", "</w>"},
                                   {"byte_fallback", true}}) {
    TinyJson json = test::tiny_byte_level();
    json["model"][key] = value;
    EXPECT_THAT(tokenizer_error(json), HasSubstr(std::string("model.") + key));
  }
}

TEST(MalformedTokenizer, Tiktoken) {
  EXPECT_THAT(tokenizer_error("a.tiktoken", "IQ== 0\nIg==\n"),
              HasSubstr("a.tiktoken:2: expected a base64 token and its rank"));
  EXPECT_THAT(tokenizer_error("a.tiktoken", "IQ== 0\nIQ== 1\n"), HasSubstr("a.tiktoken:2: a token seen before"));
  EXPECT_THAT(tokenizer_error("tokenizer.model", "IQ== 0\nIg== 1\n"),
              HasSubstr("tokenizer.model: 2 tiktoken ranks; known are"));
}

TEST(MalformedTokenizer, SentencePiece) {
  EXPECT_THAT(tokenizer_error("tokenizer.model", std::string("\x0a\x05oops", 6)),
              HasSubstr("tokenizer.model: not a sentencepiece model"));
}

TEST(MalformedTokenizer, Llama2c) {
  const std::string header("\x05\0\0\0", 4), score(4, '\0');
  EXPECT_THAT(tokenizer_error("tok.bin", "ab"),
              HasSubstr("tok.bin: truncated in the header: expected 4 bytes, found 2"));
  EXPECT_THAT(tokenizer_error("tok.bin", header + score + std::string("\x03\0\0\0ab", 6)),
              HasSubstr("tok.bin: truncated in token 0: expected 3 bytes, found 2"));
  EXPECT_THAT(tokenizer_error("tok.bin", header + score + std::string("\x09\0\0\0", 4)),
              HasSubstr("tok.bin: token 0 has 9 bytes; the header says at most 5"));
  EXPECT_THAT(tokenizer_error("tok.bin", header + score + std::string("\x01\0\0\0\xFF", 5)),
              HasSubstr("token 0 is not UTF-8"));
  EXPECT_THAT(tokenizer_error("tok.bin", header), HasSubstr("tok.bin: 0 tokens"));
}

TEST(Decode, RefusesIdsThatDoNotExist) {
  test::TemporaryFolder folder;
  folder.write("tokenizer.json", test::tiny_byte_level().dump());
  const auto tokenizer = load_tokenizer(folder.path());
  for (const std::int32_t id : {-1, 261}) {
    EXPECT_THAT(test::message_of<DataError>([&] { tokenizer->decode(std::vector{id}); }),
                HasSubstr("the tokenizer has ids 0 to 260"));
  }
}

}  // namespace
}  // namespace mla
