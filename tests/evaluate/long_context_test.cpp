// Prompts of LongBench, and answers to them.
#include "core/evaluate/long_context.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
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

TEST_F(LongContext, LosesTheMiddleOfCharactersThenOfTokens) {
  const LongBenchTask task{"toy", "{context}|{input}", 3, {{"name", "count"}}, false, true};
  LongContextItem item;
  for (int i = 0; i < 100; ++i) item.context += "aé";  // 200 characters
  item.input = "b";
  // 8 * 12 = 96 characters: 48 from each end.
  std::string cut;
  for (int i = 0; i < 48; ++i) cut += "aé";
  std::vector<std::int32_t> whole = tokenizer_->encode(cut + "|b", {.add_bos = true});
  const std::int64_t most = 12 - 3;
  ASSERT_GT(std::ssize(whole), most);
  whole.erase(whole.begin() + 5, whole.end() - 4);  // 9 tokens: the first 5 and the last 4
  EXPECT_EQ(long_context_prompt(task, item, *tokenizer_, 12, "x"), whole);
  item.context = "ab";
  EXPECT_EQ(long_context_prompt(task, item, *tokenizer_, 12, "x"), tokenizer_->encode("ab|b", {.add_bos = true}));
  EXPECT_THAT(test::message_of<ConfigError>([&] { long_context_prompt(task, item, *tokenizer_, 4, "x"); }),
              HasSubstr("x.max_tokens = 4"));
}

TEST_F(LongContext, AnswersDoNotDependOnTheBatch) {
  ModelSpec spec = test::tiny_spec("gqa");
  spec.vocabulary = tokenizer_->vocabulary_size();
  const Decoder decoder = test::tiny_decoder(spec);
  const LongBenchTask task{"toy", "{context}", 4, {{"name", "count"}}, false, true};
  std::vector<LongContextItem> items(7);
  for (std::size_t i = 0; i < items.size(); ++i) items[i].context = std::string(1 + i % 3, 'b') + "ab";
  std::vector<LongContextItem> alone = items;
  LongContextOptions options;
  options.max_tokens = 20;
  answer(decoder, *tokenizer_, task, items, std::vector<bool>(7), options);
  options.batch_tokens = 1;
  std::vector<bool> answered(7);
  answered[2] = true;
  alone[2].prediction.text = "kept";
  answer(decoder, *tokenizer_, task, alone, answered, options);
  for (std::size_t i = 0; i < items.size(); ++i) {
    EXPECT_EQ(alone[i].prediction.text, i == 2 ? "kept" : items[i].prediction.text);
  }
  // Through codes of 2 bits the same model says something else, and the format asks for each layer's streams.
  std::vector<LongContextItem> coarse = items;
  const std::shared_ptr<const Codec> codec = Registry<Codec>::instance().make({{"name", "rtn"}, {"bits", 2}}, "codec");
  std::set<std::int64_t> layers;
  options.cache = [&](std::int64_t layer, const StreamShape& stream) -> StreamStorage {
    layers.insert(layer);
    return {codec->for_stream(stream.name, nullptr), {UpdateRule::kAppendOnly, 0, 0}};
  };
  answer(decoder, *tokenizer_, task, coarse, std::vector<bool>(7), options);
  EXPECT_EQ(std::ssize(layers), spec.layer_count());
  EXPECT_TRUE(std::any_of(items.begin(), items.end(), [&](const LongContextItem& item) {
    return item.prediction.text != coarse[static_cast<std::size_t>(&item - items.data())].prediction.text;
  }));
}

TEST_F(LongContext, ItemsAreReadStrictly) {
  const auto file = folder_.write("t.jsonl", R"({"context": "c", "answers": ["a"]})");
  EXPECT_THAT(test::message_of<DataError>([&] { read_long_context_items(file); }),
              HasSubstr("t.jsonl: line 1: field input is missing"));
}

}  // namespace
}  // namespace mla
