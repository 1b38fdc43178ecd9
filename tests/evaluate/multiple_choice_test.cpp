#include "core/evaluate/multiple_choice.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "core/base/error.h"
#include "core/text/tokenizer.h"
#include "tests/support/direct_likelihood.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_models.h"
#include "tests/text/tiny_tokenizers.h"

namespace mla {
namespace {

constexpr double kChoiceRounding = 1e-10;

class MultipleChoice : public testing::Test {
 protected:
  void SetUp() override {
    folder_.write("tokenizer.json", test::tiny_sentencepiece_like().dump());
    tokenizer_ = load_tokenizer(folder_.path());
    ModelSpec spec = test::tiny_spec("mha");
    spec.vocabulary = tokenizer_->vocabulary_size();
    decoder_.emplace(test::tiny_decoder(spec));
  }

  std::vector<MultipleChoiceItem> items() const {
    std::vector<MultipleChoiceItem> items;
    const std::vector<std::string> choices = {" a", " abc cab abba", " Größe", "b"};
    for (int i = 0; i < 24; ++i)
      items.push_back({std::string(static_cast<std::size_t>(1 + i), "abc"[i % 3]), choices, i % 4});
    return items;
  }

  /// The share of items whose answer has the largest sum over length.
  double direct_accuracy(double (*length)(const std::string&)) const {
    double right = 0;
    const MultipleChoiceTask task = make_multiple_choice(items(), *tokenizer_);
    for (std::size_t i = 0; i < task.items.size(); ++i) {
      std::int64_t best = 0;
      double best_score = -INFINITY;
      for (std::size_t choice = 0; choice < task.tokens[i].size(); ++choice) {
        const double score =
            test::direct_log_likelihood(*decoder_, task.tokens[i][choice]) / length(task.items[i].choices[choice]);
        if (score > best_score) {
          best_score = score;
          best = static_cast<std::int64_t>(choice);
        }
      }
      right += best == task.items[i].answer;
    }
    return right / static_cast<double>(task.items.size());
  }

  test::TemporaryFolder folder_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::optional<Decoder> decoder_;
};

TEST_F(MultipleChoice, NormalisesAsStated) {
  const auto result = multiple_choice(*decoder_, make_multiple_choice(items(), *tokenizer_), {});
  EXPECT_EQ(result.accuracy.value, direct_accuracy([](const std::string&) { return 1.0; }));
  EXPECT_EQ(
      result.accuracy_normalized.value, direct_accuracy([](const std::string& choice) {
        return choice == " Größe" ? 5.0 : choice == " a" || choice == "b" ? 1.0 : 12.0;  // characters, no first space
      }));
  EXPECT_EQ(result.accuracy_per_byte.value, direct_accuracy([](const std::string& choice) {
              return choice == " Größe" ? 7.0 : choice == " a" || choice == "b" ? 1.0 : 12.0;
            }));
}

TEST_F(MultipleChoice, StatesItsErrorAndItsItems) {
  const auto result = multiple_choice(*decoder_, make_multiple_choice(items(), *tokenizer_), {});
  const double p = result.accuracy.value;
  double sum = 0;
  for (const double right : result.accuracy.per_item) sum += right;
  ASSERT_EQ(result.accuracy.per_item.size(), 24U);
  EXPECT_NEAR(sum / 24, p, kChoiceRounding);
  EXPECT_NEAR(result.accuracy.standard_error, std::sqrt(p * (1 - p) / 23), kChoiceRounding);
  EXPECT_EQ(result.truncated, 0);
}

TEST_F(MultipleChoice, AModelThatYieldsNoNumbersIsWrong) {
  decoder_->final_norm.fill_(NAN);
  const auto result = multiple_choice(*decoder_, make_multiple_choice(items(), *tokenizer_), {});
  EXPECT_EQ(result.accuracy.value, 0);
  EXPECT_EQ(result.accuracy_normalized.value, 0);
}

TEST_F(MultipleChoice, WhatIsLikelyWithoutTheQuestionIsTakenAway) {
  for (const std::string context : {"", "ab"}) {
    MultipleChoiceTask task = make_multiple_choice(items(), *tokenizer_);
    add_unconditional(task, context, *tokenizer_);
    ASSERT_EQ(task.tokens.size(), 48u);
    const MultipleChoiceResult result = multiple_choice(*decoder_, task, {});
    ASSERT_EQ(result.unconditional.size(), 24u);
    double right = 0, right_per_token = 0;
    for (std::size_t i = 0; i < 24; ++i) {
      std::vector<double> pmi, per_token;
      for (std::size_t k = 0; k < 4; ++k) {
        const double with = test::direct_log_likelihood(*decoder_, task.tokens[i][k]),
                     without = test::direct_log_likelihood(*decoder_, task.tokens[24 + i][k]);
        EXPECT_NEAR(result.unconditional[i][k], without, kChoiceRounding);
        pmi.push_back(with - without);
        per_token.push_back(with /
                            static_cast<double>(std::ssize(task.tokens[i][k].tokens) - task.tokens[i][k].context));
      }
      const auto best = [](const std::vector<double>& scores) {
        return std::max_element(scores.begin(), scores.end()) - scores.begin();
      };
      right += best(pmi) == task.items[i].answer;
      right_per_token += best(per_token) == task.items[i].answer;
    }
    EXPECT_EQ(result.accuracy_pmi.value, right / 24);
    EXPECT_EQ(result.accuracy_per_token.value, right_per_token / 24);
    EXPECT_EQ(result.accuracy.per_item,
              multiple_choice(*decoder_, make_multiple_choice(items(), *tokenizer_), {}).accuracy.per_item);
  }
}

TEST(CutContexts, TheRightEndOfTheContextGoes) {
  std::vector<ContinuationGroup> groups = {{{{1, 2, 3, 4, 5, 6}, 4}, {{1, 2, 3, 7}, 3}}};
  EXPECT_EQ(cut_contexts_right(groups, 4), 1);
  EXPECT_EQ(groups[0][0].tokens, (std::vector<std::int32_t>{1, 2, 5, 6}));
  EXPECT_EQ(groups[0][0].context, 2);
  EXPECT_EQ(groups[0][1].tokens.size(), 4u);
  EXPECT_THROW(cut_contexts_right(groups, 2), DataError);
}

}  // namespace
}  // namespace mla
