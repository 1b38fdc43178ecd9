// Tokenizers in GGUF files: the ids of llama.cpp's own vectors, those of the model's own tokenizer.json, and one line
// for each way in which they can be wrong.
#include "core/text/gguf_tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <iterator>
#include <sstream>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/text/tokenizer.h"
#include "tests/support/errors.h"
#include "tests/support/gguf_models.h"
#include "tests/support/shared_data.h"
#include "tests/support/temporary_folder.h"

namespace mla {
namespace {

using test::GgufBytes;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using GgufIds = std::vector<std::int32_t>;

std::unique_ptr<Tokenizer> tokenizer_in(const GgufBytes& file) {
  const test::TemporaryFolder folder;
  return load_tokenizer(folder.write("x.gguf", file.bytes()));
}

std::string gguf_tokenizer_error(const GgufBytes& file) {
  return test::message_of<DataError>([&] { tokenizer_in(file); });
}

GgufBytes bytes_with(const std::string& pre = "gpt-2") {
  GgufBytes file;
  return test::add_tiny_byte_level(file, pre);
}

class GgufVectors : public testing::TestWithParam<std::string> {};

TEST_P(GgufVectors, GiveTheReferenceIds) {
  MLA_NEEDS_SHARED("data/tokenizers/ggml-vectors");
  const auto path = test::shared_folder() / "data/tokenizers/ggml-vectors" / ("ggml-vocab-" + GetParam() + ".gguf");
  const auto tokenizer = load_tokenizer(path);
  const std::string texts = read_file(path.string() + ".inp"), separator = "\n__ggml_vocab_test__\n";
  std::istringstream lines(read_file(path.string() + ".out"));
  std::size_t checked = 0;
  for (std::size_t begin = 0; begin <= texts.size(); ++checked) {
    const std::size_t end = std::min(texts.find(separator, begin), texts.size());
    const std::string text = texts.substr(begin, end - begin);
    std::string line;
    std::getline(lines, line);  // none for the empty text behind the last separator
    std::istringstream numbers(line);
    const GgufIds wanted{std::istream_iterator<std::int32_t>(numbers), {}};
    EXPECT_EQ(tokenizer->encode(text), wanted) << "text " << checked << ": " << text;
    begin = end + separator.size();
  }
  EXPECT_GT(checked, 40u);
}

INSTANTIATE_TEST_SUITE_P(All, GgufVectors, testing::Values("gpt-2", "llama-spm"));

TEST(GgufTokenizer, PiecesAreThoseOfTheModelFileTheyCameFrom) {
  MLA_NEEDS_SHARED("data/tokenizers/ggml-vectors");
  const auto data = test::shared_folder() / "data/tokenizers";
  const auto own = load_tokenizer(data / "ggml-vectors/ggml-vocab-llama-spm.gguf");
  const auto original = load_tokenizer(data / "llama2/tokenizer.model");
  EXPECT_EQ(own->vocabulary_size(), original->vocabulary_size());
  EXPECT_EQ(own->bos(), original->bos());
  EXPECT_EQ(own->eos(), original->eos());
  for (const std::string text : {"Hello  world", " a", "", "x\n\n  y", "\u4e2d\u6587 \xF0\x9F\x98\x80"}) {
    const auto ids = original->encode(text, {.add_bos = true});
    EXPECT_EQ(own->encode(text, {.add_bos = true}), ids) << text;
    EXPECT_EQ(own->decode(ids), original->decode(ids)) << text;
  }
}

TEST(GgufTokenizer, BytePairs) {
  const auto tokenizer = tokenizer_in(bytes_with());
  EXPECT_EQ(tokenizer->vocabulary_size(), 263);
  EXPECT_EQ(tokenizer->bos(), 261);
  EXPECT_EQ(tokenizer->eos(), 262);
  EXPECT_THAT(tokenizer->encode("hello hello<eos>"), ElementsAre(259, 260, 262)) << "control tokens are read";
  EXPECT_THAT(tokenizer->encode("hello", {.add_bos = true}), ElementsAre(259)) << "gpt-2 adds none by itself";
  EXPECT_EQ(tokenizer->decode(GgufIds{259, 260}), "hello hello");
}

TEST(GgufTokenizer, WhatIsPutAroundATextIsSaidByTheFileOrItsWayToCut) {
  GgufBytes both = bytes_with();
  both.flag("tokenizer.ggml.add_bos_token", true).flag("tokenizer.ggml.add_eos_token", true);
  EXPECT_THAT(tokenizer_in(both)->encode("hello", {.add_bos = true}), ElementsAre(261, 259, 262));
  EXPECT_THAT(tokenizer_in(bytes_with("llama-bpe"))->encode("hello", {.add_bos = true}), ElementsAre(261, 259));
  GgufBytes none = bytes_with("llama-bpe");
  none.flag("tokenizer.ggml.add_bos_token", false);
  EXPECT_THAT(tokenizer_in(none)->encode("hello", {.add_bos = true}), ElementsAre(259));
}

TEST(GgufTokenizer, EachWayToCut) {
  const std::string text = "12345 ab";
  // How many words a run of digits becomes shows in merges, of which there are none here; all give the same bytes.
  for (const char* pre : {"default", "gpt-2", "smollm", "llama-bpe", "llama3", "llama-v3", "qwen2"}) {
    const auto tokenizer = tokenizer_in(bytes_with(pre));
    EXPECT_EQ(tokenizer->decode(tokenizer->encode(text)), text) << pre;
  }
  EXPECT_THAT(gguf_tokenizer_error(bytes_with("smolm")), AllOf(HasSubstr("x.gguf: key tokenizer.ggml.pre: no 'smolm'"),
                                                               HasSubstr("did you mean 'smollm'"), HasSubstr("qwen2")));
}

TEST(GgufTokenizer, Pieces) {
  GgufBytes file;
  const auto tokenizer = tokenizer_in(test::add_tiny_pieces(file));
  EXPECT_EQ(tokenizer->bos(), 1);
  EXPECT_EQ(tokenizer->eos(), 2);
  EXPECT_THAT(tokenizer->encode("ab a", {.add_bos = true}), ElementsAre(1, 261, 259));
  EXPECT_EQ(tokenizer->decode(tokenizer->encode("ab \xC3\xA9")), "ab \xC3\xA9");
  GgufBytes bare;
  test::add_tiny_pieces(bare)
      .flag("tokenizer.ggml.add_space_prefix", false)
      .flag("tokenizer.ggml.add_bos_token", false);
  EXPECT_THAT(tokenizer_in(bare)->encode("ab a", {.add_bos = true}), ElementsAre(260, 259));
}

TEST(GgufTokenizer, AsFilesItSaysTheSame) {
  for (const bool pieces : {false, true}) {
    const test::TemporaryFolder folder;
    GgufBytes file = pieces ? GgufBytes() : bytes_with("llama-bpe");
    if (pieces) test::add_tiny_pieces(file);
    const auto path = folder.write("x.gguf", file.bytes());
    std::filesystem::create_directories(folder / "out");
    write_gguf_tokenizer(path, folder / "out");
    const auto own = load_tokenizer(path), written = load_tokenizer(folder / "out");
    for (const std::string text : {"hello ab 123", "  <s> a<eos>", "\u4e2d"})
      EXPECT_EQ(own->encode(text, {.add_bos = true}), written->encode(text, {.add_bos = true})) << text;
    EXPECT_EQ(own->bos(), written->bos());
    EXPECT_EQ(own->eos(), written->eos());
    const Json config = read_json(folder / "out" / "tokenizer_config.json");
    EXPECT_EQ(config.value("chat_template", ""), pieces ? "" : "{{ messages }}");
  }
}

TEST(GgufTokenizer, TheHashKnowsTheTokenizerAlone) {
  GgufBytes other_weights = bytes_with();
  other_weights.text("general.name", "another").tensor("t", {1}, {1.0F});
  EXPECT_EQ(tokenizer_in(bytes_with())->content_hash(), tokenizer_in(other_weights)->content_hash());
  EXPECT_NE(tokenizer_in(bytes_with())->content_hash(), tokenizer_in(bytes_with("smollm"))->content_hash());
}

TEST(GgufTokenizer, WhatIsNotRead) {
  EXPECT_THAT(gguf_tokenizer_error(GgufBytes()), HasSubstr("holds no tokenizer: key tokenizer.ggml.model is missing"));
  EXPECT_THAT(gguf_tokenizer_error(GgufBytes().text("tokenizer.ggml.model", "bert")),
              HasSubstr("key tokenizer.ggml.model: no 'bert'; known: gpt2, llama"));
  EXPECT_THAT(gguf_tokenizer_error(GgufBytes().number("tokenizer.ggml.model", 1U)), HasSubstr("expected a string"));
  EXPECT_THAT(gguf_tokenizer_error(GgufBytes().text("tokenizer.ggml.model", "gpt2")),
              HasSubstr("key tokenizer.ggml.tokens is missing"));
  EXPECT_THAT(gguf_tokenizer_error(bytes_with().flag("tokenizer.ggml.new_thing", true)),
              HasSubstr("key tokenizer.ggml.new_thing = true: not supported"));
  EXPECT_THAT(gguf_tokenizer_error(bytes_with().flag("tokenizer.ggml.add_space_prefix", true)),
              HasSubstr("not supported with byte-level BPE"));
  EXPECT_THAT(gguf_tokenizer_error(bytes_with().number("tokenizer.ggml.unknown_token_id", 263U)),
              HasSubstr("unknown_token_id = 263: the tokenizer has ids 0 to 262"));
}

TEST(GgufTokenizer, ListsThatDoNotFit) {
  const auto pair_of_tokens = [](const std::string& second) {
    GgufBytes file;
    return file.text("tokenizer.ggml.model", "gpt2")
        .text("tokenizer.ggml.pre", "gpt-2")
        .texts("tokenizer.ggml.tokens", {"a", second});
  };
  const std::string types = "tokenizer.ggml.token_type", merges = "tokenizer.ggml.merges";
  EXPECT_THAT(gguf_tokenizer_error(pair_of_tokens("b").numbers(types, std::vector<std::int32_t>{1})),
              HasSubstr("token_type: 1 entries for 2 tokens"));
  EXPECT_THAT(gguf_tokenizer_error(pair_of_tokens("b").numbers(types, std::vector<std::int32_t>{1, 7})),
              HasSubstr("token_type[1] = 7: known: 1 to 6"));
  EXPECT_THAT(gguf_tokenizer_error(pair_of_tokens("a")), HasSubstr("tokens[1] = 'a': stands at 0, too"));
  EXPECT_EQ(gguf_tokenizer_error(pair_of_tokens("a").numbers(types, std::vector<std::int32_t>{1, 5}).texts(merges, {})),
            "no error")
      << "placeholders may be alike";
  EXPECT_THAT(gguf_tokenizer_error(pair_of_tokens("\xFF")), HasSubstr("is no UTF-8"));
  EXPECT_THAT(gguf_tokenizer_error(pair_of_tokens("b")), HasSubstr("key tokenizer.ggml.merges is missing"));
  EXPECT_THAT(gguf_tokenizer_error(pair_of_tokens("b").texts(merges, {"a b"})),
              HasSubstr("x.gguf: tokenizer: model.merges"));
  GgufBytes scores;
  scores.text("tokenizer.ggml.model", "llama").texts("tokenizer.ggml.tokens", {"a"});
  scores.numbers("tokenizer.ggml.scores", std::vector<float>{1, 2});
  EXPECT_THAT(gguf_tokenizer_error(scores), HasSubstr("scores: 2 entries for 1 tokens"));
}

}  // namespace
}  // namespace mla
