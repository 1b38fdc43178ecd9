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
  EXPECT_THAT(with("normalizer", {{"type", "BertNormalizer"}}),
              HasSubstr("normalizer.type: 'BertNormalizer' is not supported"));
  EXPECT_THAT(with("pre_tokenizer", {{"type", "BertPreTokenizer"}}),
              HasSubstr("pre_tokenizer.type: 'BertPreTokenizer'"));
  EXPECT_THAT(with("decoder", {{"type", "WordPiece"}}), HasSubstr("decoder.type: 'WordPiece'"));
  EXPECT_THAT(with("post_processor", {{"type", "BertProcessing"}}), HasSubstr("post_processor.type: 'BertProcessing'"));
  EXPECT_THAT(with("model", {{"type", "WordPiece"}}),
              HasSubstr("model.type: 'WordPiece' is not supported; supported: BPE, Unigram"));
  EXPECT_THAT(with("model", {{"type", "Unigram"}}), HasSubstr("'Unigram' is not supported with the pre-tokenizer"));
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

TEST(MalformedTokenizer, IdsThatWouldMakeGiantTables) {
  EXPECT_THAT(tokenizer_error("a.tiktoken", "IQ== 0\nIg== 2000000000\n"),
              HasSubstr("a.tiktoken:2: expected a base64 token and its rank, 0 to 1048575"));
  EXPECT_THAT(tokenizer_error("a.tiktoken", "IQ== 0\nIg== 99999999999\n"), HasSubstr("a.tiktoken:2: expected"));
  EXPECT_THAT(tokenizer_error("a.tiktoken", "IQ== 0\nIg== 1x\n"), HasSubstr("a.tiktoken:2: expected"));
  EXPECT_THAT(tokenizer_error("a.tiktoken", "IQ== 0\nIg== 0\n"), HasSubstr("a.tiktoken:2: rank 0 seen before"));
  for (const char* id : {"16000000", "2147483648", "9223372036854775807", "18446744073709551615", "1.5", "true"}) {
    TinyJson json = test::tiny_byte_level();
    json["model"]["vocab"]["he"] = TinyJson::parse(id);
    EXPECT_THAT(tokenizer_error(json), HasSubstr("model.vocab: token 'he' has the id")) << id;
  }
  TinyJson json = test::tiny_byte_level();
  json["model"]["vocab"]["he"] = 3;
  EXPECT_THAT(tokenizer_error(json), HasSubstr("have the same id 3"));
}

TEST(MalformedTokenizer, Unigram) {
  const auto error = [](const std::string& model, const std::string& more = "") {
    return tokenizer_error("tokenizer.json", R"({"model": {"type": "Unigram", )" + model + "}" + more + "}");
  };
  EXPECT_THAT(error(R"("vocab": [["a", -1]], "unk_id": 1)"),
              HasSubstr("model.unk_id = 1: the vocabulary has ids 0 to 0"));
  EXPECT_THAT(error(R"("vocab": [["a", -1]], "unk_id": 4294967296)"),
              HasSubstr("model.unk_id: 4294967296 does not fit"));
  EXPECT_THAT(error(R"("vocab": [["a", "b"]])"), HasSubstr("model.vocab[0]: expected a piece and its score"));
  EXPECT_THAT(error(R"("vocab": {"a": 1})"), HasSubstr("model.vocab: an object does not fit here"));
  EXPECT_THAT(error(R"("vocab": [])"), HasSubstr("model.vocab: expected pieces"));
  EXPECT_THAT(error(R"("vocab": [["a", 1]], "byte_fallback": 1)"), HasSubstr("model.byte_fallback"));
  const auto with_map = [&](const std::string& map) {
    return error(R"("vocab": [["a", -1]])",
                 R"(, "normalizer": {"type": "Precompiled", "precompiled_charsmap": ")" + map + "\"}");
  };
  EXPECT_THAT(with_map("/////w=="), HasSubstr("normalizer: precompiled_charsmap: a trie of 4294967295 bytes"));
  EXPECT_THAT(with_map("a b"), HasSubstr("precompiled_charsmap: not base64"));
  EXPECT_THAT(with_map(""), HasSubstr("precompiled_charsmap ends in its header"));

  test::TemporaryFolder folder;
  folder.write("tokenizer.json", R"({"model": {"type": "Unigram", "vocab": [["a", -1]]}})");
  const auto tokenizer = load_tokenizer(folder.path());
  EXPECT_THAT(test::message_of<DataError>([&] { tokenizer->encode("ab"); }), HasSubstr("no piece for 'b'"));
}

TEST(MalformedTokenizer, Config) {
  const auto error = [](const std::string& name, const std::string& content) {
    test::TemporaryFolder folder;
    folder.write("tokenizer.json", test::tiny_byte_level().dump());
    folder.write(name, content);
    return test::message_of<DataError>([&] { load_tokenizer(folder.path()); });
  };
  const auto config = [&](const std::string& content) { return error("tokenizer_config.json", content); };
  EXPECT_THAT(config("[]"), HasSubstr("tokenizer_config: expected an object, found an array"));
  EXPECT_THAT(config(R"({"bos_token": 3})"), HasSubstr(".bos_token: expected a token: a string or an object, found 3"));
  EXPECT_THAT(config(R"({"bos_token": {}})"), HasSubstr(".bos_token.content: missing"));
  EXPECT_THAT(config(R"({"add_bos_token": "yes"})"),
              HasSubstr(".add_bos_token: expected true or false, found \"yes\""));
  EXPECT_THAT(config(R"({"added_tokens_decoder": []})"), HasSubstr(".added_tokens_decoder: expected an object"));
  EXPECT_THAT(config(R"({"added_tokens_decoder": {"2147483648": {"content": "x"}}})"),
              HasSubstr("2147483648: expected an id"));
  EXPECT_THAT(config(R"({"added_tokens_decoder": {"-1": {"content": "x"}}})"), HasSubstr("-1: expected an id"));
  EXPECT_THAT(
      config(R"({"added_tokens_decoder": {"300": {"content": "<x>"}}})"),
      HasSubstr("the token '<x>' has the id 300 in added_tokens_decoder or added_tokens.json, but comes to 261"));
  EXPECT_THAT(config(R"({"added_tokens_decoder": {"5": {"content": "he"}}})"),
              HasSubstr("comes to 256 in the vocabulary"));
  EXPECT_THAT(config(R"({"additional_special_tokens": "x"})"), HasSubstr("expected a list of tokens"));
  EXPECT_THAT(config(R"({"split_special_tokens": true})"), HasSubstr(".split_special_tokens = true: not supported"));
  EXPECT_THAT(config(R"({"sp_model_kwargs": {"enable_sampling": true}})"), HasSubstr("ids would be random"));
  EXPECT_THAT(error("added_tokens.json", R"({"<x>": 18446744073709551615})"), HasSubstr("<x>: id"));
  EXPECT_THAT(error("added_tokens.json", R"({"<x>": "7"})"), HasSubstr("added_tokens.<x>: expected an id"));
}

TEST(MalformedTokenizer, PatternsThatNeverEnd) {
  TinyJson json = test::tiny_byte_level();
  json["pre_tokenizer"] = {
      {"type", "Split"}, {"pattern", {{"Regex", "(?:a|a)+(?:a|a)+(?:a|a)+c"}}}, {"behavior", "Isolated"}};
  test::TemporaryFolder folder;
  folder.write("tokenizer.json", json.dump());
  const auto tokenizer = load_tokenizer(folder.path());
  EXPECT_THAT(test::message_of<DataError>([&] { tokenizer->encode(std::string(200, 'a')); }),
              AllOf(HasSubstr("pre_tokenizer.pattern: regular expression (?:a|a)+"), HasSubstr("fails on a text: ")));
  json["pre_tokenizer"]["pattern"]["Regex"] = std::string(100000, '(');
  EXPECT_THAT(tokenizer_error(json), testing::SizeIs(testing::Lt(400u)));
}

TEST(MalformedTokenizer, ReplacementsThatFillTheMemory) {
  TinyJson json = test::tiny_byte_level();
  const TinyJson doubled = {{"type", "Replace"}, {"pattern", {{"String", "a"}}}, {"content", "aa"}};
  json["normalizer"] = {{"type", "Sequence"}, {"normalizers", std::vector<TinyJson>(60, doubled)}};
  test::TemporaryFolder folder;
  folder.write("tokenizer.json", json.dump());
  const auto tokenizer = load_tokenizer(folder.path());
  EXPECT_EQ(tokenizer->encode("b"), std::vector<std::int32_t>{'b'});
  EXPECT_THAT(test::message_of<DataError>([&] { tokenizer->encode("a"); }), HasSubstr("bytes out of a text of 1"));
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
