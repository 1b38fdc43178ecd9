// Tokenizers that are written into GGUF files: read again they give the ids that they gave before, and what no such
// file can say is refused by name.
#include "core/text/gguf_tokens.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <iterator>
#include <sstream>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/text/chat_template.h"
#include "core/text/tokenizer.h"
#include "tests/support/errors.h"
#include "tests/support/shared_data.h"
#include "tests/support/temporary_folder.h"
#include "tests/text/tiny_tokenizers.h"

namespace mla {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

std::filesystem::path written(const test::TemporaryFolder& folder, const std::filesystem::path& tokenizer,
                              std::int64_t vocabulary, const std::vector<std::int64_t>& ends = {}) {
  gguf::Writer writer;
  add_gguf_tokenizer(tokenizer, vocabulary, ends, writer);
  writer.write(folder / "written.gguf");
  return folder / "written.gguf";
}

std::string refusal(const std::filesystem::path& tokenizer) {
  const std::string message = test::message_of<DataError>([&] { gguf_tokens_of(tokenizer); });
  EXPECT_TRUE(message.starts_with(tokenizer.string())) << message;
  return message;
}

/// tiny_byte_level() with two special tokens, one of the user's, and BOS before every text.
test::TinyJson tiny_with_added() {
  test::TinyJson json = test::tiny_byte_level();
  json["added_tokens"] = {{{"id", 261}, {"content", "<bos>"}, {"special", true}, {"normalized", false}},
                          {{"id", 262}, {"content", "<eos>"}, {"special", true}, {"normalized", false}},
                          {{"id", 263}, {"content", "<user>"}, {"special", false}, {"normalized", false}}};
  const test::TinyJson around = {{{"SpecialToken", {{"id", "<bos>"}, {"type_id", 0}}}},
                                 {{"Sequence", {{"id", "A"}, {"type_id", 0}}}}};
  json["post_processor"] = {
      {"type", "TemplateProcessing"}, {"single", around}, {"special_tokens", {{"<bos>", {{"ids", {261}}}}}}};
  return json;
}

void expect_same_ids(const Tokenizer& before, const Tokenizer& after, const std::vector<std::string>& texts) {
  for (const std::string& text : texts) {
    EXPECT_EQ(after.encode(text), before.encode(text)) << text;
    EXPECT_EQ(after.encode(text, {.add_bos = true}), before.encode(text, {.add_bos = true})) << text;
  }
  EXPECT_EQ(after.bos(), before.bos());
  EXPECT_EQ(after.eos(), before.eos());
}

TEST(GgufTokens, BytePairs) {
  const test::TemporaryFolder folder;
  folder.write("tokenizer.json", tiny_with_added().dump());
  folder.write("tokenizer_config.json",
               R"({"tokenizer_class":"PreTrainedTokenizerFast","bos_token":"<bos>","eos_token":"<eos>",)"
               R"("pad_token":"<eos>","chat_template":"{{ messages }}"})");
  const auto path = written(folder, folder.path(), 266, {262, 263});
  const gguf::File file(path);
  const Json keys = file.metadata();
  EXPECT_EQ(keys["tokenizer.ggml.model"], "gpt2");
  EXPECT_EQ(keys["tokenizer.ggml.pre"], "gpt-2");
  EXPECT_EQ(keys["tokenizer.ggml.bos_token_id"], 261);
  EXPECT_EQ(keys["tokenizer.ggml.eos_token_id"], 262);
  EXPECT_EQ(keys["tokenizer.ggml.eot_token_id"], 263) << "the other token that ends a text";
  EXPECT_EQ(keys["tokenizer.ggml.padding_token_id"], 262);
  EXPECT_EQ(keys["tokenizer.ggml.add_bos_token"], true);
  EXPECT_EQ(keys["tokenizer.ggml.add_eos_token"], false);
  EXPECT_THAT(file.strings("tokenizer.ggml.merges"), ElementsAre("h e", "l l", "he ll", "hell o", "Ġ hello"));
  const auto tokens = file.strings("tokenizer.ggml.tokens");
  const std::vector<std::int32_t> types = file.integers("tokenizer.ggml.token_type");
  ASSERT_EQ(tokens.size(), 266u) << "as many as the model has embeddings";
  EXPECT_EQ(tokens[260], "Ġhello");
  EXPECT_EQ(tokens[265], "[PAD265]");
  EXPECT_THAT(std::vector(types.begin() + 260, types.end()), ElementsAre(1, 3, 3, 4, 5, 5));
  EXPECT_EQ(read_chat_template(path), "{{ messages }}");
  expect_same_ids(*load_tokenizer(folder.path()), *load_tokenizer(path),
                  {"", "hello hello", " he\nll <user>o<eos>", "It's 12 ä€"});
}

TEST(GgufTokens, ATokenWithoutAnEmbeddingIsLeftOut) {
  const test::TemporaryFolder folder;
  const auto json = folder.write("tokenizer.json", tiny_with_added().dump());
  const gguf::File file(written(folder, json, 261));
  EXPECT_EQ(file.strings("tokenizer.ggml.tokens").size(), 261u);
  EXPECT_FALSE(file.has("tokenizer.ggml.bos_token_id"));
  EXPECT_EQ(file.metadata()["tokenizer.ggml.add_bos_token"], false);
}

TEST(GgufTokens, MergesBecomeScores) {
  const test::TemporaryFolder folder;
  const auto json = folder.write("tokenizer.json", test::tiny_sentencepiece_like().dump());
  const auto path = written(folder, json, 265);
  const gguf::File file(path);
  EXPECT_EQ(file.metadata()["tokenizer.ggml.model"], "llama");
  EXPECT_EQ(file.metadata()["tokenizer.ggml.add_space_prefix"], true);
  EXPECT_EQ(file.metadata()["tokenizer.ggml.unknown_token_id"], 0);
  const std::vector<float> scores = file.floats("tokenizer.ggml.scores");
  EXPECT_EQ(scores[263], 0) << "'ab', the first merge";
  EXPECT_EQ(scores[262], -1) << "'▁a', the second";
  EXPECT_EQ(scores[264], -2);
  const std::vector<std::int32_t> types = file.integers("tokenizer.ggml.token_type");
  EXPECT_THAT(std::vector(types.begin(), types.begin() + 4), ElementsAre(2, 3, 3, 6));
  expect_same_ids(*load_tokenizer(json), *load_tokenizer(path), {"", "ab", "aab ab", "b  a\nä", "abba baab"});
}

TEST(GgufTokens, Sentencepiece) {
  const test::TemporaryFolder folder;
  const auto model = folder.write("tokenizer.model", test::tiny_sentencepiece_model());
  expect_same_ids(*load_tokenizer(model), *load_tokenizer(written(folder, folder.path(), 265)),
                  {"", "ab", "aab ab", "b  a\nä"});
  folder.write(
      "tokenizer_config.json",
      R"({"tokenizer_class":"LlamaTokenizer","added_tokens_decoder":{"265":{"content":"<x>","special":true}}})");
  const auto path = written(folder, folder.path(), 266);
  EXPECT_EQ(gguf::File(path).integers("tokenizer.ggml.token_type")[265], 3);
  EXPECT_THAT(load_tokenizer(path)->encode("<x>"), ElementsAre(265));
}

/// A llama2.c file with <unk>, <s>, </s>, the bytes, " ", "a", "b", " a", "ab".
std::string llama2c_bytes() {
  std::string bytes("\x08\0\0\0", 4);
  const auto add = [&](const std::string& token, float score) {
    const auto size = static_cast<std::int32_t>(token.size());
    bytes.append(reinterpret_cast<const char*>(&score), sizeof score);
    bytes.append(reinterpret_cast<const char*>(&size), sizeof size);
    bytes += token;
  };
  for (const char* token : {"<unk>", "\n<s>\n", "\n</s>\n"}) add(token, 0);
  for (int byte = 0; byte < 256; ++byte) add(byte_token(static_cast<unsigned char>(byte)), 0);
  float score = 0;
  for (const char* token : {" a", "ab", " ", "a", "b"}) add(token, score--);
  return bytes;
}

TEST(GgufTokens, Llama2c) {
  const test::TemporaryFolder folder;
  const auto file = folder.write("tok.bin", llama2c_bytes());
  const auto path = written(folder, file, 264);
  EXPECT_EQ(gguf::File(path).strings("tokenizer.ggml.tokens")[259], "▁a");
  expect_same_ids(*load_tokenizer(file), *load_tokenizer(path), {"ab", "aab ab", "b  a\nä"});
}

TEST(GgufTokens, OfAnotherGgufFileAreCopied) {
  const test::TemporaryFolder folder;
  const auto first = written(folder, folder.write("tokenizer.json", tiny_with_added().dump()), 264);
  std::filesystem::rename(first, folder / "a.gguf");
  const auto second = written(folder, folder / "a.gguf", 264);
  EXPECT_EQ(gguf::File(second).metadata(), gguf::File(folder / "a.gguf").metadata());
  EXPECT_THAT(test::message_of<DataError>([&] { written(folder, folder / "a.gguf", 263); }),
              HasSubstr("264 tokens for a model with 263 embeddings"));
}

TEST(GgufTokens, NoTokenizerIsSaid) {
  const test::TemporaryFolder folder;
  gguf::Writer writer;
  add_no_gguf_tokenizer(writer);
  writer.write(folder / "x.gguf");
  EXPECT_THAT(test::message_of<DataError>([&] { load_tokenizer(folder / "x.gguf"); }), HasSubstr("holds no tokenizer"));
}

TEST(GgufTokens, WhatFilesCannotSay) {
  const test::TemporaryFolder folder;
  const auto refused = [&](const char* part, const test::TinyJson& value, test::TinyJson json) {
    json[test::TinyJson::json_pointer(part)] = value;
    return refusal(folder.write("tokenizer.json", json.dump()));
  };
  const test::TinyJson byte_level = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}};
  const test::TinyJson split = {{"type", "Split"}, {"pattern", {{"Regex", "[a-z]+"}}}, {"behavior", "Isolated"}};
  const test::TinyJson cut = {{"type", "Sequence"}, {"pretokenizers", {split, byte_level}}};
  EXPECT_THAT(refused("/pre_tokenizer", cut, test::tiny_byte_level()),
              AllOf(HasSubstr("its way to cut text has no name in GGUF files"), HasSubstr("[a-z]+"),
                    HasSubstr("llama-bpe"), HasSubstr("smollm"), HasSubstr("qwen2")));
  EXPECT_THAT(refused("/normalizer", {{"type", "NFC"}}, test::tiny_byte_level()), HasSubstr("has no name"))
      << "GPT-2's cut, but composed";
  EXPECT_THAT(refused("/model/byte_fallback", false, test::tiny_sentencepiece_like()),
              HasSubstr("neither byte-level BPE nor BPE as Llama 2 has it"));
  EXPECT_THAT(refused("/normalizer", {{"type", "NFKC"}}, test::tiny_sentencepiece_like()), HasSubstr("neither"));
  test::TinyJson around = tiny_with_added();
  const test::TinyJson more = {{"SpecialToken", {{"id", "<eos>"}, {"type_id", 0}}}};
  around["post_processor"]["single"].insert(around["post_processor"]["single"].begin(), more);
  around["post_processor"]["special_tokens"]["<eos>"] = {{"ids", {262}}};
  EXPECT_THAT(refusal(folder.write("tokenizer.json", around.dump())), HasSubstr("puts 2 tokens around a text"));
  std::string pieces = test::tiny_sentencepiece_model();
  const auto model = folder.write("tokenizer.model", pieces + test::proto_bytes(2, test::proto_number(3, 1)));
  EXPECT_THAT(refusal(model), HasSubstr("chosen by likelihood (unigram)"));
  EXPECT_THAT(refusal(folder.write("x.tiktoken", "YQ== 0\n")), HasSubstr("tiktoken ranks have no merges"));
}

/// A tokenizer and the vectors of llama.cpp for it.
struct Vectors {
  const char *tokenizer, *name;
};
class GgufTokensOfPublishedFiles : public testing::TestWithParam<Vectors> {};

TEST_P(GgufTokensOfPublishedFiles, GiveTheReferenceIds) {
  const auto shared = test::shared_folder() / "data/tokenizers";
  const auto tokenizer = shared / GetParam().tokenizer;
  const auto vectors = shared / "ggml-vectors" / (std::string("ggml-vocab-") + GetParam().name + ".gguf");
  if (!std::filesystem::exists(tokenizer)) GTEST_SKIP() << tokenizer << " is missing";
  const test::TemporaryFolder folder;
  const auto before = load_tokenizer(tokenizer);
  const auto after = load_tokenizer(written(folder, tokenizer, before->vocabulary_size()));
  const std::string texts = read_file(vectors.string() + ".inp"), separator = "\n__ggml_vocab_test__\n";
  std::istringstream lines(read_file(vectors.string() + ".out"));
  std::size_t checked = 0;
  for (std::size_t begin = 0; begin <= texts.size(); ++checked) {
    const std::size_t end = std::min(texts.find(separator, begin), texts.size());
    const std::string text = texts.substr(begin, end - begin);
    std::string line;
    std::getline(lines, line);
    std::istringstream numbers(line);
    const std::vector<std::int32_t> wanted{std::istream_iterator<std::int32_t>(numbers), {}};
    EXPECT_EQ(after->encode(text), wanted) << "text " << checked << ": " << text;
    begin = end + separator.size();
  }
  EXPECT_GT(checked, 40u);
  EXPECT_EQ(after->bos(), before->bos());
}
INSTANTIATE_TEST_SUITE_P(All, GgufTokensOfPublishedFiles,
                         testing::Values(Vectors{"llama2/tokenizer.model", "llama-spm"},
                                         Vectors{"llama2/tokenizer.json", "llama-spm"},
                                         Vectors{"llama2/tokenizer.bin", "llama-spm"},
                                         Vectors{"qwen2/vocab.json", "qwen2"}, Vectors{"gpt2/encoder.json", "gpt-2"}));

}  // namespace
}  // namespace mla
