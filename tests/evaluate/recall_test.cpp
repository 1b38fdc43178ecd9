// Generated recall items, and asking a model.
#include "core/evaluate/recall.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "core/base/error.h"
#include "core/base/fields.h"
#include "core/evaluate/generate.h"
#include "core/evaluate/position_buckets.h"
#include "tests/support/errors.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_models.h"
#include "tests/text/tiny_tokenizers.h"

namespace mla {
namespace {

using testing::HasSubstr;

std::unique_ptr<Tokenizer> tokenizer() {
  const test::TemporaryFolder folder;
  return load_tokenizer(folder.write("tokenizer.json", test::tiny_sentencepiece_like().dump()));
}

RecallOptions options_of(const std::string& kind) {
  RecallOptions options;
  options.kind = kind;
  options.lengths = {300, 500};
  options.items = 3;
  options.seed = 4;
  return options;
}

class RecallItems : public testing::TestWithParam<const char*> {
 protected:
  std::unique_ptr<Tokenizer> tokenizer_ = tokenizer();
};
INSTANTIATE_TEST_SUITE_P(Kinds, RecallItems, testing::Values("passkey", "needle", "key_value"));

TEST_P(RecallItems, HideTheAnswerAtTheirDepthAndFitTheirLength) {
  const auto items = make_recall_items(options_of(GetParam()), *tokenizer_);
  ASSERT_EQ(items.size(), 2U * 5 * 3);
  std::set<std::string> contexts;
  for (const RecallItem& item : items) {
    const std::string& right = item.question.choices[static_cast<std::size_t>(item.question.answer)];
    const std::size_t place = item.question.context.find(right);
    ASSERT_NE(place, std::string::npos) << item.question.context;
    EXPECT_NEAR(static_cast<double>(place) / static_cast<double>(item.question.context.size()), 0.15 + 0.6 * item.depth,
                0.25);
    const std::int64_t tokens = std::ssize(tokenizer_->encode(item.question.context + right, {.add_bos = true}));
    EXPECT_LE(tokens, item.length);
    EXPECT_GT(tokens, item.length - 60) << "one more sentence would have fitted";
    EXPECT_EQ(std::set<std::string>(item.question.choices.begin(), item.question.choices.end()).size(), 4U);
    contexts.insert(item.question.context);
  }
  EXPECT_EQ(contexts.size(), items.size());
}

TEST_P(RecallItems, DependOnTheirSeedAlone) {
  RecallOptions options = options_of(GetParam());
  const auto items = make_recall_items(options, *tokenizer_);
  options.lengths = {500};
  options.items = 5;
  const auto more = make_recall_items(options, *tokenizer_);
  EXPECT_EQ(more[0].question, items[15].question);
  EXPECT_EQ(more[7].question, items[20].question);  // depth 0.25, the third item
  options.seed = 5;
  EXPECT_NE(make_recall_items(options, *tokenizer_)[0].question, more[0].question);
}

class RecallTexts : public testing::Test {
 protected:
  std::unique_ptr<Tokenizer> tokenizer_ = tokenizer();
};

TEST_F(RecallTexts, OtherKeysMislead) {
  const auto items = make_recall_items(options_of("key_value"), *tokenizer_);
  for (const RecallItem& item : items) {
    for (const std::string& choice : item.question.choices) EXPECT_THAT(item.question.context, HasSubstr(choice));
  }
}

TEST_F(RecallTexts, WordsOfOnesOwn) {
  RecallOptions options = options_of("key_value");
  options.beginning = "Once.";
  options.statement = " {key} has a {value}.";
  options.question = " What does {key} have? A";
  options.keys = {"Tom", "Mia", "Leo"};
  options.values = {"hat", "cup", "drum", "boat"};
  for (const RecallItem& item : make_recall_items(options, *tokenizer_)) {
    EXPECT_THAT(item.question.context, testing::StartsWith("Once."));
    for (const char* key : {"Tom", "Mia", "Leo"})
      EXPECT_THAT(item.question.context, HasSubstr(cat(" ", key, " has a ")));
    const std::string& right = item.question.choices[static_cast<std::size_t>(item.question.answer)];
    const std::size_t key = item.question.context.find("What does ") + 10;
    EXPECT_THAT(item.question.context, HasSubstr(cat(" ", item.question.context.substr(key, 3), " has a", right, ".")));
  }
}

TEST_F(RecallTexts, MistakesAreNamed) {
  const auto message = [](const auto& change) {
    RecallOptions options;
    change(options);
    return test::message_of<ConfigError>([&] { options.validate("evaluate[0].recall"); });
  };
  EXPECT_EQ(message([](RecallOptions&) {}), "no error");
  EXPECT_THAT(message([](RecallOptions& o) { o.kind = "pass_key"; }),
              HasSubstr("evaluate[0].recall.kind: no 'pass_key'; did you mean 'passkey'"));
  EXPECT_EQ(message([](RecallOptions& o) {
              o.depths = {0.5, 1.5};
            }),
            "evaluate[0].recall.depths[1] = 1.5: expected 0 (the beginning) to 1 (the end)");
  EXPECT_THAT(message([](RecallOptions& o) { o.choices = 1; }), HasSubstr(".choices = 1"));
  EXPECT_THAT(message([](RecallOptions& o) { o.statement = " no value"; }), HasSubstr(".statement: has no {value}"));
  EXPECT_THAT(message([](RecallOptions& o) { o.question = " What? It is "; }),
              HasSubstr(".question: ends with a space"));
  EXPECT_THAT(message([](RecallOptions& o) {
                o.values = {"a", "b"};
              }),
              HasSubstr(".values: 2 are fewer than the 4 choices"));
  EXPECT_THAT(message([](RecallOptions& o) { o.keys = {"a", "a"}; }), HasSubstr(".keys[1]: 'a' is given twice"));
  EXPECT_THAT(message([](RecallOptions& o) { o.lengths = {}; }), HasSubstr(".lengths: the list is empty"));
  RecallOptions options;
  options.lengths = {20};
  EXPECT_THAT(test::message_of<DataError>([&] { make_recall_items(options, *tokenizer_); }),
              HasSubstr("a length of 20 tokens has no room"));
}

// Greedy decoding, one token after the other, decides what counts as exact; also for rows that share their beginning.
TEST(Greedy, FlagsAreThoseOfGreedyDecoding) {
  const Decoder decoder = test::tiny_decoder(test::tiny_spec("gqa"));
  std::vector<ContinuationGroup> groups;
  for (std::uint64_t seed = 0; seed < 6; ++seed) {
    const at::Tensor prompt = test::random_ids(decoder.spec(), 1, 9, seed);
    const at::Tensor found = greedy_continue(decoder, prompt, 3);
    std::vector<std::int32_t> tokens;
    for (const at::Tensor& part : {prompt, found}) {
      for (std::int64_t i = 0; i < part.size(1); ++i)
        tokens.push_back(static_cast<std::int32_t>(part[0][i].item<std::int64_t>()));
    }
    ContinuationGroup group = {{tokens, 9}};
    for (const std::size_t place : {std::size_t{9}, std::size_t{11}}) {
      auto other = tokens;
      other[place] = (other[place] + 1) % 50;
      group.push_back({other, 9});
    }
    groups.push_back(group);
  }
  for (const bool share : {false, true}) {
    LikelihoodOptions options;
    options.share_contexts = share;
    options.greedy = true;
    const LikelihoodResult result = log_likelihoods(decoder, groups, options);
    for (const auto& flags : result.greedy) EXPECT_EQ(flags, (std::vector<char>{1, 0, 0}));
    options.greedy = false;
    const LikelihoodResult plain = log_likelihoods(decoder, groups, options);
    EXPECT_TRUE(plain.greedy.empty());
    for (std::size_t i = 0; i < groups.size(); ++i) {
      EXPECT_THAT(result.sum[i], testing::Pointwise(testing::DoubleNear(1e-10), plain.sum[i]));
    }
  }
}

TEST(Recall, AsksBeyondTheModelsPositions) {
  ModelSpec spec = test::tiny_spec("gqa");
  spec.vocabulary = 300;
  spec.max_positions = 64;
  const Decoder decoder = test::tiny_decoder(spec);
  RecallOptions options = options_of("passkey");
  options.lengths = {200};
  const RecallTask task = make_recall_task(options, *tokenizer());
  const RecallResult result = recall(decoder, task, 4096);
  ASSERT_EQ(result.nll.size(), 15U);
  LikelihoodOptions whole;
  whole.positions = 1000;
  const auto sums = log_likelihoods(decoder, task.tokens, whole).sum;
  for (std::size_t i = 0; i < result.nll.size(); ++i) {
    const auto right = static_cast<std::size_t>(task.items[i].question.answer);
    EXPECT_NEAR(result.nll[i], -sums[i][right], 1e-9);
    EXPECT_EQ(result.chosen[i], *std::max_element(sums[i].begin(), sums[i].end()) == sums[i][right] ? 1 : 0);
  }
}

TEST(PositionBuckets, AreThoseOfPowersOfTwoAndTheTrainedLength) {
  EXPECT_EQ(usual_buckets(33, 1000), (std::vector<std::int64_t>{1, 2, 4, 8, 16, 32}));
  EXPECT_EQ(usual_buckets(40, 24), (std::vector<std::int64_t>{1, 2, 4, 8, 16, 24, 32}));
  EXPECT_EQ(usual_buckets(40, 32), (std::vector<std::int64_t>{1, 2, 4, 8, 16, 32}));
  EXPECT_EQ(usual_buckets(40, 36), (std::vector<std::int64_t>{1, 2, 4, 8, 16, 32, 36}));
  EXPECT_EQ(usual_buckets(2, 4), (std::vector<std::int64_t>{1}));
}

TEST(PositionBuckets, HoldTheirTokensAndGroups) {
  const std::vector<double> values{10, 20, 30, 40, 50, 60};
  const auto buckets = by_position(values, {1, 2, 3, 1, 2, 5}, {3, 3}, {2, 4, 8});
  ASSERT_EQ(buckets.size(), 2U);
  EXPECT_EQ(buckets[0].name(), "2-3");
  EXPECT_EQ(buckets[0].values, (std::vector<double>{20, 30, 50}));
  EXPECT_EQ(buckets[0].groups, (std::vector<std::int64_t>{2, 1}));
  EXPECT_EQ(buckets[1].name(), "4-7");
  EXPECT_EQ(buckets[1].values, (std::vector<double>{60}));
  EXPECT_EQ(buckets[1].groups, (std::vector<std::int64_t>{0, 1}));
  EXPECT_EQ(by_position(values, {1, 2, 3, 1, 2, 5}, {}, {1, 5})[1].name(), "5");
  EXPECT_EQ(test::message_of<ConfigError>([] {
              check_buckets("b", {4, 4}, 10);
            }),
            "b[1] = 4: expected ascending positions from 1 to 9");
  EXPECT_EQ(test::message_of<ConfigError>([] { check_buckets("b", {0}, 10); }),
            "b[0] = 0: expected ascending positions from 1 to 9");
}

}  // namespace
}  // namespace mla
