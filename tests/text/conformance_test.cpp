// Ids of the reference libraries, as published in the shared folder.
#include <gtest/gtest.h>

#include "core/base/file.h"
#include "core/base/json.h"
#include "core/text/tokenizer.h"
#include "tests/support/shared_data.h"

namespace mla {
namespace {

using Ids = std::vector<std::int32_t>;

struct Case {
  const char *name, *path;
};

class TokenizerVectors : public testing::TestWithParam<Case> {};

TEST_P(TokenizerVectors, GivesTheReferenceIds) {
  MLA_NEEDS_SHARED("data/conformance/tokenizers/vectors.json");
  const auto data = test::shared_folder() / "data";
  const LargeJson vectors = read_large_json(data / "conformance/tokenizers/vectors.json");
  const auto tokenizer = load_tokenizer(data / "tokenizers" / GetParam().path);
  const LargeJson& wanted = vectors.at("tokenizers").at(GetParam().name).at("ids");
  const auto texts = vectors.at("texts").get<std::vector<std::string>>();
  ASSERT_EQ(texts.size(), wanted.size());
  ASSERT_GT(texts.size(), 100u);
  for (std::size_t i = 0; i < texts.size(); ++i) {
    EXPECT_EQ(tokenizer->encode(texts[i]), wanted[i].get<Ids>()) << "text " << i << ": " << texts[i];
  }
}

INSTANTIATE_TEST_SUITE_P(All, TokenizerVectors,
                         testing::Values(Case{"smollm", "smollm"}, Case{"gpt-neox", "gpt-neox"}, Case{"gpt2", "gpt2"},
                                         Case{"llama2", "llama2/tokenizer.model"}, Case{"mistral-v1", "mistral-v1"},
                                         Case{"llama2-json", "llama2/tokenizer.json"}, Case{"llama3", "llama3"},
                                         Case{"qwen2", "qwen2"}));

std::vector<std::string> split(const std::string& text, const std::string& separator) {
  std::vector<std::string> parts;
  std::size_t begin = 0;
  for (std::size_t end; (end = text.find(separator, begin)) != std::string::npos; begin = end + separator.size()) {
    parts.push_back(text.substr(begin, end - begin));
  }
  parts.push_back(text.substr(begin));
  return parts;
}

class GgmlVectors : public testing::TestWithParam<Case> {};

TEST_P(GgmlVectors, GivesTheReferenceIds) {
  MLA_NEEDS_SHARED("data/tokenizers/ggml-vectors");
  const auto data = test::shared_folder() / "data/tokenizers";
  const auto file = [&](const char* extension) {
    return read_file(data / "ggml-vectors" / (std::string("ggml-vocab-") + GetParam().name + ".gguf" + extension));
  };
  const auto texts = split(file(".inp"), "\n__ggml_vocab_test__\n");
  const auto lines = split(file(".out"), "\n");
  const auto tokenizer = load_tokenizer(data / GetParam().path);
  ASSERT_GE(lines.size(), texts.size());
  ASSERT_GT(texts.size(), 40u);
  for (std::size_t i = 0; i < texts.size(); ++i) {
    std::istringstream numbers(lines[i]);
    const Ids wanted{std::istream_iterator<std::int32_t>(numbers), {}};
    EXPECT_EQ(tokenizer->encode(texts[i]), wanted) << "text " << i << ": " << texts[i];
  }
}

INSTANTIATE_TEST_SUITE_P(All, GgmlVectors,
                         testing::Values(Case{"gpt-2", "gpt2"}, Case{"gpt-2", "gpt2/r50k_base.tiktoken"},
                                         Case{"llama-bpe", "llama3"}, Case{"llama-spm", "llama2/tokenizer.model"},
                                         Case{"llama-spm", "llama2/tokenizer.json"},
                                         Case{"llama-spm", "llama2/tokenizer.bin"}, Case{"qwen2", "qwen2"}));

struct SpecialIds {
  const char* path;
  std::int64_t size;
  std::optional<std::int32_t> bos, eos;
  Ids before;  // What add_bos puts before a text.
};

class TokenizerFolders : public testing::TestWithParam<SpecialIds> {};

TEST_P(TokenizerFolders, KnowItsSizeAndSpecialTokens) {
  MLA_NEEDS_SHARED(std::string("data/") + GetParam().path);
  const auto tokenizer = load_tokenizer(test::shared_folder() / "data" / GetParam().path);
  EXPECT_EQ(tokenizer->vocabulary_size(), GetParam().size);
  EXPECT_EQ(tokenizer->bos(), GetParam().bos);
  EXPECT_EQ(tokenizer->eos(), GetParam().eos);
  Ids wanted = GetParam().before;
  const Ids plain = tokenizer->encode("Once upon a time");
  wanted.insert(wanted.end(), plain.begin(), plain.end());
  EXPECT_EQ(tokenizer->encode("Once upon a time", {.add_bos = true}), wanted);
  EXPECT_EQ(tokenizer->decode(wanted), "Once upon a time");
}

INSTANTIATE_TEST_SUITE_P(All, TokenizerFolders,
                         testing::Values(SpecialIds{"weights/tinystories-656k", 2048, 1, 2, {1}},
                                         SpecialIds{"weights/stories260K", 512, 1, 2, {1}},
                                         SpecialIds{"weights/babyllama-tok105", 105, 1, 2, {1}},
                                         SpecialIds{"tokenizers/llama2", 32000, 1, 2, {1}},
                                         SpecialIds{"tokenizers/llama2/tokenizer.model", 32000, 1, 2, {1}},
                                         SpecialIds{"tokenizers/llama2/tokenizer.bin", 32000, 1, 2, {1}},
                                         SpecialIds{"tokenizers/mistral-v1", 32000, 1, 2, {1}},
                                         SpecialIds{"tokenizers/llama3", 128256, 128000, 128001, {128000}},
                                         SpecialIds{"tokenizers/smollm", 49152, 0, 0, {}},
                                         SpecialIds{"tokenizers/gpt-neox", 50280, 0, 0, {}},
                                         SpecialIds{"tokenizers/gpt2", 50257, 50256, 50256, {}},
                                         SpecialIds{"tokenizers/gpt2/r50k_base.tiktoken", 50257, 50256, 50256, {}},
                                         SpecialIds{"tokenizers/qwen2", 151644, std::nullopt, 151643, {}}));

TEST(SpecialText, IsReadWhereTheFormatOrTheCallerSaysSo) {
  MLA_NEEDS_SHARED("data/tokenizers");
  const auto data = test::shared_folder() / "data/tokenizers";
  const auto llama3 = load_tokenizer(data / "llama3");
  EXPECT_GT(llama3->encode("<|eot_id|>").size(), 1u);
  EXPECT_EQ(llama3->encode("<|eot_id|>", {.parse_special = true}), Ids{128009});
  const auto gpt2 = load_tokenizer(data / "gpt2");
  EXPECT_EQ(gpt2->encode("<|endoftext|>"), (Ids{27, 91, 437, 1659, 5239, 91, 29}));
  EXPECT_EQ(gpt2->encode("<|endoftext|>", {.parse_special = true}), Ids{50256});
  EXPECT_EQ(load_tokenizer(data / "smollm")->encode("<|endoftext|>"), Ids{0});
  EXPECT_EQ(load_tokenizer(data / "qwen2")->encode("a<|endoftext|>b"), (Ids{64, 151643, 65}));
  const auto llama2 = load_tokenizer(data / "llama2/tokenizer.model");
  EXPECT_EQ(llama2->encode("</s>"), (Ids{1533, 29879, 29958}));
  EXPECT_EQ(llama2->encode("</s>", {.parse_special = true}), Ids{2});
}

}  // namespace
}  // namespace mla
