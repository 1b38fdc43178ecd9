// Answers to questions about long texts.
#include "core/evaluate/long_context.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "core/base/error.h"
#include "core/base/registry.h"
#include "core/kv_cache/stream.h"
#include "core/quantize/codec.h"
#include "tests/support/errors.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_models.h"
#include "tests/text/tiny_tokenizers.h"

namespace mla {
namespace {

using testing::HasSubstr;

class LongContext : public testing::Test {
 protected:
  void SetUp() override {
    folder_.write("tokenizer.json", test::tiny_sentencepiece_like().dump());
    tokenizer_ = load_tokenizer(folder_.path());
  }
  test::TemporaryFolder folder_;
  std::unique_ptr<Tokenizer> tokenizer_;
};

TEST(LongTexts, LoseTheirMiddle) {
  EXPECT_EQ(without_middle("aébcdé", 4), "aédé") << "characters, not bytes";
  EXPECT_EQ(without_middle("aébcdé", 5), "aédé") << "halves of the same length";
  EXPECT_EQ(without_middle("aébcdé", 6), "aébcdé");
  using Ids = std::vector<std::int32_t>;
  EXPECT_EQ(without_middle(Ids{1, 2, 3, 4, 5, 6}, 5), (Ids{1, 2, 3, 5, 6})) << "the first half has the odd one";
  EXPECT_EQ(without_middle(Ids{1, 2, 3}, 3), (Ids{1, 2, 3}));
}

TEST_F(LongContext, AnswersDoNotDependOnTheBatch) {
  ModelSpec spec = test::tiny_spec("gqa");
  spec.vocabulary = tokenizer_->vocabulary_size();
  const Decoder decoder = test::tiny_decoder(spec);
  std::vector<std::vector<std::int32_t>> prompts;
  for (std::size_t i = 0; i < 7; ++i)
    prompts.push_back(tokenizer_->encode(std::string(1 + i % 3, 'b') + "ab", {.add_bos = true}));
  AnswerOptions options;
  options.new_tokens = 4;
  if (tokenizer_->eos()) options.ends = {*tokenizer_->eos()};
  std::size_t batches = 0;
  const auto all = [&] {
    batches = 0;
    std::vector<std::string> texts(prompts.size(), "none");
    answer(decoder, *tokenizer_, prompts, options,
           [&](const std::vector<std::size_t>& batch, const std::vector<std::string>& answers) {
             ++batches;
             ASSERT_EQ(batch.size(), answers.size());
             for (std::size_t i = 0; i < batch.size(); ++i) texts[batch[i]] = answers[i];
           });
    return texts;
  };
  const std::vector<std::string> together = all();
  EXPECT_EQ(batches, 3u) << "one of each length";
  EXPECT_THAT(together, testing::Not(testing::Contains("none")));
  options.batch_tokens = 1;
  prompts[2].clear();
  const std::vector<std::string> alone = all();
  EXPECT_EQ(batches, 6u);
  for (std::size_t i = 0; i < alone.size(); ++i) EXPECT_EQ(alone[i], i == 2 ? "none" : together[i]);
  // Through codes of 2 bits the same model says something else, and the format asks for each layer's streams.
  const std::shared_ptr<const Codec> codec = Registry<Codec>::instance().make({{"name", "rtn"}, {"bits", 2}}, "codec");
  std::set<std::int64_t> layers;
  options.cache = [&](std::int64_t layer, const StreamShape& stream) -> StreamStorage {
    layers.insert(layer);
    return {codec->for_stream(stream.name, nullptr), {UpdateRule::kAppendOnly, 0, 0}};
  };
  EXPECT_NE(all(), alone);
  EXPECT_EQ(std::ssize(layers), spec.layer_count());
}

TEST_F(LongContext, StopTextsEndAnswersWithoutChangingThem) {
  ModelSpec spec = test::tiny_spec("gqa");
  spec.vocabulary = tokenizer_->vocabulary_size();
  const Decoder decoder = test::tiny_decoder(spec);
  std::vector<std::vector<std::int32_t>> prompts;
  for (const char* text : {"ab", "ba", "cb", "bb", "ca"})
    prompts.push_back(tokenizer_->encode(text, {.add_bos = true}));
  AnswerOptions options;
  options.new_tokens = 24;
  const auto said = [&] {
    std::vector<std::string> texts(prompts.size());
    answer(decoder, *tokenizer_, prompts, options,
           [&](const std::vector<std::size_t>& batch, const std::vector<std::string>& answers) {
             for (std::size_t i = 0; i < batch.size(); ++i) texts[batch[i]] = answers[i];
           });
    return texts;
  };
  const std::vector<std::string> whole = said();
  options.stop = {whole[0].substr(whole[0].size() / 3, 2), whole[1].substr(whole[1].size() / 2, 3)};
  const auto before_stop = [&](const std::string& text) {
    std::size_t end = text.size();
    for (const std::string& stop : options.stop) end = std::min(end, text.find(stop));
    return text.substr(0, end);
  };
  for (const std::int64_t batch_tokens : {8192, 1}) {  // all in one batch, and each alone
    options.batch_tokens = batch_tokens;
    const std::vector<std::string> ended = said();
    for (std::size_t i = 0; i < whole.size(); ++i) {
      EXPECT_TRUE(whole[i].starts_with(ended[i])) << ended[i] << " | " << whole[i];
      EXPECT_EQ(before_stop(ended[i]), before_stop(whole[i])) << i;
    }
    for (const std::size_t i : {0, 1}) EXPECT_LT(ended[i].size(), whole[i].size()) << i;
  }
}

TEST(StopTexts, AreKnownWhenNoLongerOneMayHaveBegunBefore) {
  EXPECT_FALSE(is_stopped("a b", {"\n"}));
  EXPECT_TRUE(is_stopped("a\nb", {"\n"}));
  EXPECT_TRUE(is_stopped("\n", {"\n"}));
  EXPECT_FALSE(is_stopped("", {"\n", "ab"}));
  EXPECT_FALSE(is_stopped("xab", {"b", "ab c"})) << "\"ab c\" would begin before \"b\"";
  EXPECT_TRUE(is_stopped("xabd", {"b", "ab c"}));
  EXPECT_TRUE(is_stopped("xab c", {"b", "ab c"}));
  EXPECT_TRUE(is_stopped("xab", {"ab", "b c"})) << "\"b c\" would begin behind it";
}

TEST_F(LongContext, ItemsAreReadStrictly) {
  const auto file = folder_.write("t.jsonl", R"({"context": "c", "answers": ["a"]})");
  EXPECT_THAT(test::message_of<DataError>([&] { read_long_context_items(file); }),
              HasSubstr("t.jsonl: line 1: field input is missing"));
}

}  // namespace
}  // namespace mla
