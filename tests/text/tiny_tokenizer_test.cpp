// The rules of each format on vocabularies small enough to check by hand.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "core/base/error.h"
#include "core/text/tokenizer.h"
#include "core/text/tokenizer_readers.h"
#include "tests/support/errors.h"
#include "tests/support/temporary_folder.h"
#include "tests/text/tiny_tokenizers.h"

namespace mla {
namespace {

using Ids = std::vector<std::int32_t>;
using test::TinyJson;

std::unique_ptr<Tokenizer> load(const TinyJson& json) {
  test::TemporaryFolder folder;
  folder.write("tokenizer.json", json.dump());
  return load_tokenizer(folder.path());
}

TinyJson added(std::int32_t id, const char* content) {
  return {{"id", id}, {"content", content}, {"special", false}, {"normalized", false}};
}

TEST(ByteLevelBpe, MergesByRankAndKeepsBytes) {
  const auto tokenizer = load(test::tiny_byte_level());
  EXPECT_EQ(tokenizer->encode("hello hello"), (Ids{259, 260}));
  EXPECT_EQ(tokenizer->encode("helllo"), (Ids{258, 'l', 'o'}));  // Of two pairs "l l" the left one goes first.
  EXPECT_EQ(tokenizer->encode("é"), (Ids{0xC3, 0xA9}));
  EXPECT_EQ(tokenizer->encode(std::string_view("\0", 1)), Ids{0});
  EXPECT_EQ(tokenizer->encode("\xFF"), tokenizer->encode("\uFFFD"));
  EXPECT_EQ(tokenizer->encode(""), Ids{});
  EXPECT_EQ(tokenizer->decode(Ids{260, 0xC3}), " hello\uFFFD");
  EXPECT_EQ(tokenizer->vocabulary_size(), 261);
}

TEST(ByteLevelBpe, TakesWholeWordsWhenMergesAreIgnored) {
  TinyJson json = test::tiny_byte_level();
  json["model"]["vocab"]["lo"] = 261;
  json["model"]["merges"] = TinyJson::array({"l o"});
  EXPECT_EQ(load(json)->encode("hello"), (Ids{'h', 'e', 'l', 261}));
  json["model"]["ignore_merges"] = true;
  EXPECT_EQ(load(json)->encode("hello"), Ids{259});
  EXPECT_EQ(load(json)->encode("helo"), (Ids{'h', 'e', 261}));
}

TEST(AddedTokens, TheLeftmostLongestIsTaken) {
  TinyJson json = test::tiny_byte_level();
  json["added_tokens"] = {added(261, "<a>"), added(262, "<a><b>"), added(263, "<b>")};
  EXPECT_EQ(load(json)->encode("<a><b><b>x<a>"), (Ids{262, 263, 'x', 261}));
}

TEST(AddedTokens, FlagsTakeSpacesAndLookAtWords) {
  TinyJson json = test::tiny_byte_level();
  TinyJson left = added(261, "<l>"), right = added(262, "<r>"), word = added(263, "cat");
  left["lstrip"] = right["rstrip"] = word["single_word"] = true;
  json["added_tokens"] = {left, right, word};
  const auto tokenizer = load(json);
  EXPECT_EQ(tokenizer->encode("x \n<l> y"), (Ids{'x', 261, ' ', 'y'}));
  EXPECT_EQ(tokenizer->encode("x <r> \ny"), (Ids{'x', ' ', 262, 'y'}));
  EXPECT_EQ(tokenizer->encode("cat,cats"), (Ids{263, ',', 'c', 'a', 't', 's'}));
}

TEST(AddedTokens, VanishWhereTheTokenBeforeHasTakenTheirSpaces) {
  TinyJson json = test::tiny_byte_level();
  TinyJson right = added(261, "<r>"), tab = added(262, "\t");
  right["rstrip"] = tab["lstrip"] = true;
  json["added_tokens"] = {right, tab, added(263, "\n")};
  const auto tokenizer = load(json);
  EXPECT_EQ(tokenizer->encode("<r>\tx"), (Ids{261, 'x'}));
  EXPECT_EQ(tokenizer->encode("<r> \t x"), (Ids{261, 'x'}));
  EXPECT_EQ(tokenizer->encode("<r>\nx"), (Ids{261, 263, 'x'}));  // It does not strip, so the reference takes it twice.
}

TEST(LimitIds, RefusesATextOnlyWhereAnIdBeyondOccurs) {
  TinyJson json = test::tiny_byte_level();
  json["added_tokens"] = {added(261, "[PAD]")};
  test::TemporaryFolder folder;
  folder.write("tokenizer.json", json.dump());
  auto whole = load_tokenizer(folder.path());
  const std::string hash = whole->content_hash();
  const auto tokenizer = limit_ids(std::move(whole), 261, "folder");
  EXPECT_EQ(tokenizer->content_hash(), hash);
  EXPECT_EQ(tokenizer->encode(" hello"), Ids{260});
  EXPECT_THAT(test::message_of<DataError>([&] { tokenizer->encode("a[PAD]"); }),
              testing::HasSubstr(
                  "folder: the token '[PAD]' has the id 261, but the model has embeddings for the ids 0 to 260"));
}

TEST(ContentHash, FollowsTheTokensOfTheConfig) {
  test::TemporaryFolder folder;
  folder.write("tokenizer.json", test::tiny_byte_level().dump());
  const std::string plain = load_tokenizer(folder.path())->content_hash();
  folder.write("tokenizer_config.json", R"({"tokenizer_class": "PreTrainedTokenizerFast", "chat_template": "x"})");
  EXPECT_EQ(load_tokenizer(folder.path())->content_hash(), plain);
  folder.write("tokenizer_config.json", R"({"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<pad>"})");
  EXPECT_NE(load_tokenizer(folder.path())->content_hash(), plain);
}

TEST(AddedTokens, NormalizedOnesAreFoundInNormalizedText) {
  TinyJson json = test::tiny_byte_level();
  json["normalizer"] = {{"type", "Lowercase"}};
  TinyJson token = added(261, "Cat");
  json["added_tokens"] = {token};
  EXPECT_EQ(load(json)->encode("CAT"), (Ids{'c', 'a', 't'}));
  token["normalized"] = true;
  json["added_tokens"] = {token};
  EXPECT_EQ(load(json)->encode("CAT"), Ids{261});
}

TEST(SentencePieceLike, PrependsFallsBackToBytesAndAddsBos) {
  const auto tokenizer = load(test::tiny_sentencepiece_like());
  EXPECT_EQ(tokenizer->encode("ab a"), (Ids{264, 262}));
  EXPECT_EQ(tokenizer->encode("é"), (Ids{259, 3 + 0xC3, 3 + 0xA9}));
  EXPECT_EQ(tokenizer->encode("ab", {.add_bos = true}), (Ids{1, 264}));
  EXPECT_EQ(tokenizer->encode("", {.add_bos = true}), Ids{1});
  EXPECT_EQ(tokenizer->encode("a<s>a"), (Ids{262, 1, 262}));  // Each part gets its prefix, as in the reference.
  EXPECT_EQ(tokenizer->decode(Ids{1, 264, 262}), "ab a");
  EXPECT_EQ(tokenizer->decode(Ids{1, 264}, false), "<s> ab");
  EXPECT_EQ(tokenizer->decode(Ids{3 + 0xC3, 264}), "\uFFFD ab");
  EXPECT_EQ(tokenizer->bos(), 1);
  EXPECT_EQ(tokenizer->eos(), 2);
}

TEST(SentencePieceLike, UnknownCharactersFuseOrVanish) {
  TinyJson json = test::tiny_sentencepiece_like();
  json["model"]["byte_fallback"] = false;
  EXPECT_EQ(load(json)->encode("aéèb"), (Ids{262, 0, 261}));
  json["model"]["fuse_unk"] = false;
  EXPECT_EQ(load(json)->encode("aéèb"), (Ids{262, 0, 0, 261}));
  json["model"].erase("unk_token");
  EXPECT_EQ(load(json)->encode("aéèb"), Ids{264});
}

TEST(TokenizerConfig, NamesSpecialTokensAndWhetherTheyAreAdded) {
  test::TemporaryFolder folder;
  folder.write("tokenizer.json", test::tiny_sentencepiece_like().dump());
  folder.write(
      "tokenizer_config.json",
      R"({"bos_token": {"content": "</s>"}, "eos_token": "<s>", "add_bos_token": true, "add_eos_token": true})");
  const auto tokenizer = load_tokenizer(folder.path());
  EXPECT_EQ(tokenizer->bos(), 2);
  EXPECT_EQ(tokenizer->eos(), 1);
  folder.write("tokenizer_config.json", R"({"bos_token": "<s>", "add_bos_token": false})");
  EXPECT_EQ(load_tokenizer(folder.path())->encode("a", {.add_bos = true}), Ids{262});
}

TEST(VocabMerges, FollowsGpt2UnlessTheConfigSaysQwen2) {
  test::TemporaryFolder folder;
  TinyJson vocabulary = test::tiny_byte_level()["model"]["vocab"];
  folder.write("vocab.json", vocabulary.dump());
  folder.write("merges.txt", "#version: 0.2\nh e\nl l\n");
  EXPECT_EQ(load_tokenizer(folder.path())->encode("e\u0301"), (Ids{'e', 0xCC, 0x81}));
  EXPECT_EQ(load_tokenizer(folder.path() / "merges.txt")->encode("he"), Ids{256});
  folder.write("tokenizer_config.json", R"({"tokenizer_class": "Qwen2Tokenizer"})");
  const auto qwen2 = load_tokenizer(folder.path());
  EXPECT_EQ(qwen2->encode("e\u0301"), (Ids{0xC3, 0xA9}));
  EXPECT_EQ(qwen2->encode("<|endoftext|>"), Ids{261});
}

TEST(Tiktoken, MergesTheLowestRankOfAnySplit) {
  Vocabulary ranks;
  for (int byte = 0; byte < 256; ++byte) ranks[std::string(1, static_cast<char>(byte))] = byte;
  ranks["bc"] = 256;
  ranks["ab"] = 257;
  ranks["abc"] = 258;
  ranks["xyz"] = 259;  // Of no two tokens: only as a whole word.
  const auto tokenizer = make_tiktoken_tokenizer(ranks, make_gpt2_splitter(), {"<begin>", "<end>"}, "<end>", true);
  EXPECT_EQ(tokenizer->encode("abcab"), (Ids{258, 257}));
  EXPECT_EQ(tokenizer->encode("xyz xyz", {.add_bos = true}), (Ids{260, 259, ' ', 'x', 'y', 'z'}));
  EXPECT_EQ(tokenizer->encode("<end>", {.parse_special = true}), Ids{261});
  EXPECT_EQ(tokenizer->decode(Ids{260, 258, 0xE2, 0x82, 0xAC, 0xFF}), "abc€\uFFFD");
  EXPECT_EQ(tokenizer->eos(), 261);
}

template <class T>
void put(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

std::string tiny_llama2c() {
  std::string file;
  put<std::int32_t>(file, 6);
  const auto token = [&file](const std::string& text, float score) {
    put(file, score);
    put(file, static_cast<std::int32_t>(text.size()));
    file += text;
  };
  for (const char* special : {"<unk>", "\n<s>\n", "\n</s>\n"}) token(special, 0);
  for (int byte = 0; byte < 256; ++byte) token(byte_token(static_cast<unsigned char>(byte)), 0);
  token(" ", -3);
  token("a", -4);
  token("b", -5);
  token("ab", -2);
  token(" a", -1);
  return file;
}

TEST(Llama2c, MergesTheHighestScore) {
  test::TemporaryFolder folder;
  folder.write("tokenizer.bin", tiny_llama2c());
  const auto tokenizer = load_tokenizer(folder.path());
  EXPECT_EQ(tokenizer->encode("ab"), (Ids{263, 261}));  // " a" scores above "ab".
  EXPECT_EQ(tokenizer->encode("bab", {.add_bos = true}), (Ids{1, 259, 261, 262}));
  EXPECT_EQ(tokenizer->encode("\n"), (Ids{259, 3 + 10}));
  EXPECT_EQ(tokenizer->encode("</s>", {.parse_special = true}), Ids{2});
  EXPECT_EQ(tokenizer->decode(Ids{1, 263, 3 + 10, 261, 2}), "a\nb");
}

TEST(LoadTokenizer, FindsAFileByItsFormat) {
  test::TemporaryFolder folder;
  folder.write("tok9.bin", tiny_llama2c());
  folder.write("model.bin", "weights");
  EXPECT_EQ(load_tokenizer(folder.path())->vocabulary_size(), 264);
  folder.write("tokenizer.json", test::tiny_byte_level().dump());
  EXPECT_EQ(load_tokenizer(folder.path())->vocabulary_size(), 261);
}

}  // namespace
}  // namespace mla
