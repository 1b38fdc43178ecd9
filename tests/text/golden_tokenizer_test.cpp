// What the reference libraries make of patterns, of Unigram models and of configs beside a tokenizer: values of
// tokenizers 0.23.3 and transformers 5.24 in golden/, made from the tiny tokenizers of this folder.
#include <gtest/gtest.h>

#include "core/base/error.h"
#include "core/base/json.h"
#include "core/text/pre_tokenizer.h"
#include "core/text/tokenizer.h"
#include "tests/support/temporary_folder.h"
#include "tests/text/tiny_tokenizers.h"

namespace mla {
namespace {

using Ids = std::vector<std::int32_t>;

Json golden(const char* name) { return read_json(std::filesystem::path(MLA_SOURCE_DIR) / "tests/text/golden" / name); }

std::string joined_pieces(const PreTokenizer& splitter, const std::string& text) {
  std::string pieces;
  splitter.split({text, true}, [&](Piece piece) {
    if (!pieces.empty()) pieces += "│";
    pieces += piece.text;
  });
  return pieces;
}

TEST(GoldenPatterns, SplitAsOnigurumaDoesOrAreRefused) {
  const Json file = golden("regex.json");
  std::size_t refused = 0;
  for (const Json& item : file["cases"]) {
    const LargeJson split = {{"type", "Split"},
                             {"pattern", {{"Regex", item["regex"].get<std::string>()}}},
                             {"behavior", item["behavior"].get<std::string>()},
                             {"invert", item.value("invert", false)}};
    if (item.contains("refused")) {
      EXPECT_THROW(read_pre_tokenizer(split, "pattern"), DataError) << item["regex"];
      ++refused;
      continue;
    }
    const PreTokenization read = read_pre_tokenizer(split, "pattern");
    for (std::size_t i = 0; i < file["texts"].size(); ++i) {
      EXPECT_EQ(joined_pieces(*read.splitter, file["texts"][i].get<std::string>()),
                item["pieces"][i].get<std::string>())
          << item["regex"] << ' ' << item["behavior"];
    }
  }
  EXPECT_GT(file["cases"].size(), 150u);
  EXPECT_GT(refused, 20u);
}

TEST(GoldenPatterns, PropertiesKnowUnicode16) {
  const std::string text = "a\uA7CB\U0002EBF0\U0001FAE9\u0897\U0001CCF0";  // Lu, Lo (Han), So, Mn, Nd of 15.1 and 16.
  const auto matches = [&](const char* regex) {
    const auto splitter = make_pattern_splitter(make_regex_pattern(regex, "x"), SplitBehavior::kRemoved, true);
    return joined_pieces(*splitter, text);
  };
  EXPECT_EQ(matches("\\p{Lu}"), "\uA7CB");
  EXPECT_EQ(matches("\\p{Han}"), "\U0002EBF0");
  EXPECT_EQ(matches("[\\p{Letter}]"), "a│\uA7CB│\U0002EBF0");
  EXPECT_EQ(matches("\\p{S}"), "\U0001FAE9");
  EXPECT_EQ(matches("\\p{Mark}"), "\u0897");
  EXPECT_EQ(matches("\\p{N}"), "\U0001CCF0");
  EXPECT_EQ(matches("\\p{^L}+"), "\U0001FAE9\u0897\U0001CCF0");
}

TEST(GoldenUnigram, GivesTheReferenceIds) {
  const Json file = golden("unigram.json");
  for (const Json& item : file["cases"]) {
    test::TemporaryFolder folder;
    folder.write("tokenizer.json", item["tokenizer"].dump());
    const auto tokenizer = load_tokenizer(folder.path());
    for (std::size_t i = 0; i < file["texts"].size(); ++i) {
      EXPECT_EQ(tokenizer->encode(file["texts"][i].get<std::string>()), item["ids"][i].get<Ids>())
          << item["about"] << ": " << file["texts"][i];
    }
  }
}

void write_base(const test::TemporaryFolder& folder, const std::string& form) {
  const test::TinyJson json = test::tiny_byte_level();
  if (form == "tokenizer.json") folder.write(form, json.dump());
  if (form == "tokenizer.model") folder.write(form, test::tiny_sentencepiece_model());
  if (form != "vocab.json") return;
  folder.write(form, json["model"]["vocab"].dump());
  std::string merges = "#version: 0.2\n";
  for (const auto& merge : json["model"]["merges"]) merges += merge.get<std::string>() + "\n";
  folder.write("merges.txt", merges);
}

TEST(GoldenConfigs, AddTheTokensThatTransformersAdds) {
  const Json file = golden("configs.json");
  const auto texts = file["texts"].get<std::vector<std::string>>();
  ASSERT_GT(file["cases"].size(), 60u);
  for (const Json& item : file["cases"]) {
    const auto form = item["form"].get<std::string>();
    test::TemporaryFolder folder;
    write_base(folder, form);
    for (const auto& [name, content] : item["files"].items()) folder.write(name, content.dump());
    const auto tokenizer = load_tokenizer(folder.path());
    for (std::size_t i = 0; i < texts.size(); ++i) {
      EXPECT_EQ(tokenizer->encode(texts[i]), item["plain"][i].get<Ids>()) << form << item["files"] << texts[i];
      EXPECT_EQ(tokenizer->encode(texts[i], {.add_bos = true}), item["special"][i].get<Ids>())
          << form << item["files"] << texts[i];
    }
    const auto id_or_none = [](const Json& id) {
      return id.is_null() ? std::nullopt : std::optional(id.get<std::int32_t>());
    };
    EXPECT_EQ(tokenizer->bos(), id_or_none(item["bos"])) << form << item["files"];
    EXPECT_EQ(tokenizer->eos(), id_or_none(item["eos"])) << form << item["files"];
  }
}

TEST(GoldenConfigs, IdsOfAddedTokensDecode) {
  test::TemporaryFolder folder;
  write_base(folder, "tokenizer.model");
  folder.write("tokenizer_config.json", R"({"tokenizer_class": "LlamaTokenizer", "pad_token": "<pad>"})");
  folder.write("added_tokens.json", R"({"<x>": 265})");
  const auto tokenizer = load_tokenizer(folder.path());
  EXPECT_EQ(tokenizer->vocabulary_size(), 267);
  EXPECT_EQ(tokenizer->decode(Ids{1, 261, 265, 266}, false), "<s>ab<x><pad>");
  EXPECT_EQ(tokenizer->decode(Ids{1, 261, 265, 266}), "ab<x>");
}

}  // namespace
}  // namespace mla
